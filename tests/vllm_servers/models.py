"""Models small enough to serve on a CPU, made from what the gateway installs anyway.

usage: models.py FOLDER GGUF LIBRARY, with the Python of vLLM and the repository's root on its path;
writes FOLDER/smollm2, FOLDER/moe (a Qwen3-MoE with random weights and SmolLM2's tokens) and
FOLDER/adapters/NAME: two LoRA adapters with random weights, and those of the embedded library.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from router_models.experts.gguf_adapter import read_adapter

ADAPTERS = ("poet", "clerk")
RANK = 8


def main() -> None:
    folder, gguf, library = (Path(arg) for arg in sys.argv[1:])
    convert(gguf, folder / "smollm2")
    mixture(folder / "smollm2", folder / "moe")
    for path in sorted(library.glob("*.gguf")):
        expert(folder / "smollm2", path, folder / "adapters" / path.stem)
    for seed, name in enumerate(ADAPTERS):
        adapter(folder / "smollm2", folder / "adapters" / name, seed)


def convert(gguf: Path, out: Path) -> None:
    """The GGUF file as safetensors in bf16, tokenizer and chat template included."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    unpacked = GgufConfig(gguf_file=gguf.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=unpacked
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def mixture(tokens_of: Path, out: Path) -> None:
    """Four layers of eight experts, two a token."""
    tokenizer = AutoTokenizer.from_pretrained(tokens_of)
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, moe_intermediate_size=64,
        num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, head_dim=64,
        num_experts=8, num_experts_per_tok=2, norm_topk_prob=True, decoder_sparse_step=1,
        mlp_only_layers=[], max_position_embeddings=2048, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, initializer_range=0.08,
    )  # fmt: skip
    Qwen3MoeForCausalLM(config).to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def adapter(model: Path, out: Path, seed: int) -> None:
    """A PEFT adapter on the queries and values of every layer."""
    config = AutoConfig.from_pretrained(model)
    width = config.hidden_size // config.num_attention_heads
    rows = {"q_proj": config.num_attention_heads, "v_proj": config.num_key_value_heads}
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(config.num_hidden_layers):
        for name, heads in rows.items():
            stem = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            a = torch.randn(RANK, config.hidden_size, generator=generator) * 0.05
            b = torch.randn(heads * width, RANK, generator=generator) * 0.05
            weights[f"{stem}.lora_A.weight"], weights[f"{stem}.lora_B.weight"] = a, b
    save_peft(model, out, weights, RANK, 16)


def expert(model: Path, gguf: Path, out: Path) -> None:
    """An adapter of the embedded library, from llama.cpp's form back into PEFT's."""
    heads = AutoConfig.from_pretrained(model).num_attention_heads
    found = read_adapter(gguf, heads=heads)
    weights = {}
    for (layer, module), pair in found.pairs.items():
        stem = f"base_model.model.model.layers.{layer}.self_attn.{module}"
        weights[f"{stem}.lora_A.weight"] = torch.from_numpy(pair.a.copy())
        weights[f"{stem}.lora_B.weight"] = torch.from_numpy(pair.b.copy())
    save_peft(model, out, weights, found.rank, found.alpha)


def save_peft(
    model: Path, out: Path, weights: dict[str, torch.Tensor], rank: int, alpha: float
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "adapter_model.safetensors")
    about = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(model), "r": rank,
        "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False,
        "inference_mode": True, "target_modules": sorted({n.split(".")[-3] for n in weights}),
    }  # fmt: skip
    (out / "adapter_config.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main()
