"""The embedded expert library: adapters of one small language model, trained and measured on a CPU.

Training and measuring need the ``train`` extra (torch, transformers, peft, gguf). Only ``library``
and ``weights`` do not, and only those two are imported by what serves requests.
"""
