"""Encoders as they stand in an artifact: settings in the manifest, arrays, and files of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.encoders import Encoder
from router_models.encoders.blend import BlendEncoder
from router_models.encoders.lexical import LexicalEncoder
from router_models.encoders.sentence import (
    ENCODER_FILE,
    TOKENIZER_FILE,
    SentenceEncoder,
    SentenceModel,
)

Arrays = Mapping[str, NDArray[Any]]
Files = Mapping[str, bytes]

#: Every file that an encoder may keep beside an artifact's arrays.
ENCODER_FILES = (ENCODER_FILE, TOKENIZER_FILE)

_MAX_BUCKETS = 2**24


def settings_of(encoder: Encoder) -> dict[str, object]:
    """Return what ``encoder_of`` needs besides arrays and files; JSON."""
    settings: dict[str, object] = {"kind": encoder.kind, **encoder.settings()}
    if isinstance(encoder, BlendEncoder) and encoder.words.kind != "lexical":
        settings["words"] = encoder.words.kind
    return settings


def files_of(encoder: Encoder) -> dict[str, bytes]:
    """Return the files that an encoder keeps, by name; most have none."""
    words = words_of(encoder)
    return words.files() if isinstance(words, SentenceEncoder) else {}


def words_of(encoder: Encoder) -> Encoder:
    """Return the part of an encoder that tells what a text is about."""
    return encoder.words if isinstance(encoder, BlendEncoder) else encoder


def is_slow(encoder: Encoder) -> bool:
    """Whether reading one text takes milliseconds of a core, and not microseconds."""
    return isinstance(words_of(encoder), SentenceEncoder)


def file_names(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the files that an encoder with these settings keeps."""
    return ENCODER_FILES if "sentence" in (settings["kind"], settings.get("words")) else ()


def encoder_of(settings: Mapping[str, Any], arrays: Arrays, files: Files) -> Encoder:
    """Put an encoder together.

    Raises KeyError, TypeError or ValueError where parts disagree, and ArtifactError where a package
    that it needs is not installed.
    """
    kind = settings["kind"]
    if kind == "blend":
        words = _words(settings.get("words", "lexical"), settings, arrays, files)
        mean, scale = arrays["shape_mean"], arrays["shape_scale"]
        if mean.dtype != np.float64 or scale.dtype != np.float64:
            raise ValueError(
                f"arrays 'shape_mean' and 'shape_scale' are {mean.dtype}, {scale.dtype}"
            )
        return BlendEncoder(words, mean, scale, float(settings["shape_share"]))
    return _words(kind, settings, arrays, files)


def _words(kind: object, settings: Mapping[str, Any], arrays: Arrays, files: Files) -> Encoder:
    if kind == "lexical":
        return _lexical(settings, arrays)
    if kind == "sentence":
        return _sentence(settings, arrays, files)
    raise ValueError(f"unknown encoder {kind!r}")


def _lexical(settings: Mapping[str, Any], arrays: Arrays) -> LexicalEncoder:
    buckets = int(settings["buckets"])
    if buckets > _MAX_BUCKETS:
        raise ValueError(f"{buckets} buckets are more than {_MAX_BUCKETS}")
    known, idf = arrays["known"], arrays["idf"]
    if known.dtype != np.uint32 or idf.dtype != np.float32:
        raise ValueError(f"arrays 'known' and 'idf' are {known.dtype} and {idf.dtype}")
    return LexicalEncoder(buckets, known, idf, float(settings["unknown_idf"]))


def _sentence(settings: Mapping[str, Any], arrays: Arrays, files: Files) -> SentenceEncoder:
    centre = arrays["centre"]
    if centre.dtype != np.float32:
        raise ValueError(f"array 'centre' is {centre.dtype}")
    model = SentenceModel(
        files[ENCODER_FILE],
        files[TOKENIZER_FILE],
        int(settings["window"]),
        first_token=bool(settings["first_token"]),
    )
    if model.dimensions != settings["dimensions"]:
        raise ValueError(
            f"{ENCODER_FILE}: its vectors have {model.dimensions} dimensions, "
            f"the manifest says {settings['dimensions']}"
        )
    return SentenceEncoder(model, centre)
