"""From a torch module to the ONNX file that the gateway runs, in int8 where that is close enough."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from router_models.encoders.sentence import SentenceModel
from router_models.finetune.source import Source
from router_models.types import DataError

#: Least mean cosine with torch's own vectors at which int8, or float32, is taken.
_LEAST_INT8, _LEAST_FLOAT = 0.97, 0.9999
_OPSET = 17


class _Tokens(torch.nn.Module):
    """The body as a function of token ids alone: served prompts come one at a time, unpadded."""

    def __init__(self, body: torch.nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.body(
            input_ids=input_ids, attention_mask=torch.ones_like(input_ids)
        ).last_hidden_state


def export(source: Source, samples: Sequence[str]) -> tuple[SentenceModel, float]:
    """Export ``source.body``; return the model, and its mean cosine with torch on ``samples``.

    Weights are int8, quantised by channel, activations as they come; float32 where int8 is too far
    off. Raises DataError when even that does not compute what torch computes.
    """
    source.body.eval()
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            # The exporter through torch.export gave another function.
            torch.onnx.export(
                _Tokens(source.body).eval(),  # else it gives the body back in training mode
                (torch.ones(1, 12, dtype=torch.long),),
                str(plain),
                input_names=["input_ids"],
                output_names=["last_hidden_state"],
                dynamic_axes={"input_ids": {1: "tokens"}, "last_hidden_state": {1: "tokens"}},
                opset_version=_OPSET,
                dynamo=False,
            )
        with _quiet():
            quantize_dynamic(str(plain), str(small), weight_type=QuantType.QInt8, per_channel=True)
        for path, least in ((small, _LEAST_INT8), (plain, _LEAST_FLOAT)):
            model = SentenceModel(
                path.read_bytes(), source.tokenizer, source.window, first_token=source.first_token
            )
            cosine = _agreement(model, source, samples)
            if cosine >= least:
                return model, cosine
    raise DataError(f"the exported encoder does not compute what torch does (cosine {cosine:.3f})")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that the quantiser gives on every call."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@torch.no_grad()
def _agreement(model: SentenceModel, source: Source, samples: Sequence[str]) -> float:
    found = []
    for text in samples:
        ids = torch.tensor([model.tokens(text)])
        hidden = source.body(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        own = (hidden[0, 0] if source.first_token else hidden[0].mean(0)).numpy()
        found.append(float(own @ model.embed(text)) / max(float(np.linalg.norm(own)), 1e-9))
    return float(np.mean(found))
