"""The zero-install backend: one llama.cpp server, a small language model and its LoRA experts."""
