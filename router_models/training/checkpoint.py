"""What a training run has finished so far, on disk: after a kill the next run goes on from there.

Every stage is one ``.npz`` file that appears whole or not at all. A checkpoint belongs to one question:
the same data, options and version of the package. Of any other nothing is taken over.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from router_models.files import replace_file
from router_models.types import DataError

T = TypeVar("T")
Arrays = dict[str, NDArray[Any]]

ABOUT = "about.json"
#: Where a value's numbers and texts stand among its arrays.
_PLAIN = "plain"


class Checkpoint:
    """Stages of one training run. ``folder`` None keeps nothing.

    ``question`` is JSON that names all that the stages depend on. Raises DataError when the folder
    holds anything else than a checkpoint or cannot be written.
    """

    def __init__(self, folder: Path | None = None, question: Mapping[str, object] | None = None):
        self._folder = folder
        self._question = json.dumps(question, sort_keys=True)
        self.resumed: list[str] = []
        if folder is not None and folder.exists() and not _is_about(folder, self._question):
            shutil.rmtree(folder)

    def stage(self, name: str, kind: type[T], compute: Callable[[], T]) -> T:
        """Return the value of a stage: as it was kept, or computed and kept.

        ``kind`` is a frozen dataclass of arrays, numbers, texts and other such dataclasses.
        """
        kept = self.arrays(name)
        if kept is not None:
            self.resumed.append(name)
            value: T = _rebuilt(kind, json.loads(str(kept[_PLAIN])), kept)
            return value
        value = compute()
        found: Arrays = {}
        plain = _flattened(value, "value", found)
        self.keep(name, {**found, _PLAIN: np.array(json.dumps(plain))})
        return value

    def arrays(self, name: str) -> Arrays | None:
        """Return what was kept under a name; None where there is nothing, or nothing whole."""
        if self._folder is None:
            return None
        try:
            with np.load(self._folder / f"{name}.npz", allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except FileNotFoundError:
            return None

    def keep(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep arrays under a name, in place of those that are there."""
        if self._folder is None:
            return
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        self._begin(self._folder)
        replace_file(self._folder / f"{name}.npz", content.getvalue())

    def folder(self) -> Path | None:
        """Return where a stage with files of its own may put them."""
        if self._folder is not None:
            self._begin(self._folder)
        return self._folder

    def _begin(self, folder: Path) -> None:
        """Name the question with the first thing kept: a run that fails before leaves nothing."""
        if not (folder / ABOUT).exists():
            replace_file(folder / ABOUT, self._question.encode())

    def remove(self) -> None:
        """Forget everything: the run is done."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def checkpoint_beside(out: Path) -> Path:
    """Return where the checkpoint of the artifact ``out`` lies."""
    out = out.absolute()
    return out.with_name(f"{out.name}.training")


def digest_of(*parts: object) -> str:
    """Return a short name for values, which their ``repr`` tells apart."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _is_about(folder: Path, question: str) -> bool:
    try:
        return (folder / ABOUT).read_text() == question
    except OSError as error:
        raise DataError(
            f"{folder}: stands where training keeps its checkpoint; remove it"
        ) from error


def _flattened(value: Any, at: str, arrays: Arrays) -> Any:
    """Turn a value into JSON; arrays go to ``arrays`` under the path at which they stand."""
    if isinstance(value, np.ndarray):
        arrays[at] = value
        return at
    if is_dataclass(value):
        return {
            f.name: _flattened(getattr(value, f.name), f"{at}.{f.name}", arrays)
            for f in fields(value)
        }
    if isinstance(value, list | tuple):
        return [_flattened(each, f"{at}.{i}", arrays) for i, each in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _rebuilt(kind: Any, plain: Any, arrays: Arrays) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{name: _rebuilt(hints[name], part, arrays) for name, part in plain.items()})
    if get_origin(kind) in (types.UnionType, Union):
        options = [option for option in get_args(kind) if option is not types.NoneType]
        return None if plain is None else _rebuilt(options[0], plain, arrays)
    if get_origin(kind) in (list, tuple):
        parts = [_rebuilt(get_args(kind)[0], part, arrays) for part in plain]
        return parts if get_origin(kind) is list else tuple(parts)
    if get_origin(kind) is np.ndarray:
        return arrays[plain]
    return plain
