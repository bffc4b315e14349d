"""Fine-tuning a sentence encoder end to end with a router's heads, as Tryage does (2308.11601).

Needs the extra ``train``. The gateway never imports it: what comes out is an ONNX file.
"""
