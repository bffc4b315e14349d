"""The versions of the router: artifacts that never change, a history, and a link to the one in force.

``active`` is a symbolic link, so that what serves changes in one step. The history is written whole
or not at all. A promotion writes its intent first, then moves the link, then the outcome: after a
crash the link alone tells which of the two holds.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from gateway.errors import UNREADABLE_JSON, ConfigError, InvalidRequest, NotFound, quoted
from gateway.learning.steps import read_report
from gateway.settings import Config
from router_models.artifact import load_suite
from router_models.types import ArtifactError

#: Raised when a field changes its meaning.
FORMAT = 1
#: Artifacts kept of versions that were neither in force nor under trial; the history keeps all.
KEPT_ARTIFACTS = 20

Stage = Literal["trained", "shadow", "promoted", "rejected", "rolled_back"]


class Measures(msgspec.Struct, frozen=True):
    """How good a version is on prompts that it never saw; None where nothing was measured.

    ``routed_quality`` is the mean score of its choices, ``best_single`` that of always choosing the
    best model. ``difference`` is to the version then in force, with its interval.
    """

    routed_quality: float | None = None
    best_single: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A router that was trained. ``promoted_s`` is when it last came into force, None for never.

    ``scored`` counts the scored requests that there were when it was trained.
    """

    id: str
    created_s: float
    stage: Stage
    reason: str
    train_prompts: int | None = None
    scored: int = 0
    metrics: Measures = Measures()
    promoted_s: float | None = None


class _Change(msgspec.Struct, frozen=True):
    """What the history becomes once ``active`` is in force."""

    active: str
    versions: tuple[Version, ...]


class _State(msgspec.Struct, frozen=True):
    format: int = FORMAT
    versions: tuple[Version, ...] = ()
    pending: _Change | None = None


@dataclass(frozen=True, slots=True)
class History:
    """All versions, the oldest first, and the id of the one in force."""

    active: str | None
    versions: tuple[Version, ...]

    def find(self, version_id: str) -> Version:
        """Raises NotFound."""
        for version in self.versions:
            if version.id == version_id:
                return version
        raise NotFound(f"no version has the id {quoted(version_id)}", param="id")

    @property
    def serving(self) -> Version | None:
        return None if self.active is None else self.find(self.active)

    @property
    def in_shadow(self) -> Version | None:
        """The latest version under trial."""
        return next((v for v in reversed(self.versions) if v.stage == "shadow"), None)

    def document(self) -> dict[str, Any]:
        """What the console and the admin port show."""
        serving = self.serving
        return {
            "enabled": True,
            "active": None
            if serving is None
            else {
                "id": serving.id,
                "since_s": serving.promoted_s,
                "metrics": msgspec.to_builtins(serving.metrics),
            },
            "versions": [
                {
                    "id": version.id,
                    "created_s": version.created_s,
                    "stage": version.stage,
                    "reason": version.reason,
                    "train_prompts": version.train_prompts,
                    "metrics": msgspec.to_builtins(version.metrics),
                }
                for version in self.versions
            ],
        }


class VersionStore:
    """The folder of all versions. Whoever changes it holds its lock; reading needs none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._link = folder / "active"
        self.state = folder / "state.json"

    def artifact(self, version_id: str) -> Path:
        """Where a version's artifact lies."""
        return self.folder / "versions" / version_id

    def read(self) -> History:
        """The history as it stands. Raises ConfigError when it cannot be read."""
        while True:
            active = self._active()
            state = self._read_state()
            if self._active() == active:  # no promotion passed between the two
                break
        change = state.pending
        is_done = change is not None and change.active == active
        return History(active, change.versions if change and is_done else state.versions)

    def keep(self, version: Version, artifact: Path) -> None:
        """Add a version; its artifact is moved here from ``artifact``, which lies in this folder.

        Raises InvalidRequest when there is such a version, since the same data teach the same.
        """
        with self._changing() as history:
            if any(v.id == version.id for v in history.versions):
                raise InvalidRequest(f"there is a version {version.id} already", param="id")
            place = self.artifact(version.id)
            place.parent.mkdir(exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)  # a crash left it, and nothing names it
            artifact.rename(place)
            self._write(_State(versions=(*history.versions, version)))

    def update(self, version: Version) -> None:
        """Put a version in place of the one of its id; what is in force does not change."""
        with self._changing() as history:
            history.find(version.id)
            self._write(_State(versions=_replaced(history.versions, version)))

    def promote(self, version_id: str, reason: str, at_s: float) -> History:
        """Bring a version into force.

        Raises NotFound, or InvalidRequest when it is in force or its artifact cannot be loaded.
        """
        with self._changing() as history:
            version = history.find(version_id)
            self._check_loadable(history, version)
            chosen = msgspec.structs.replace(
                version, stage="promoted", reason=reason, promoted_s=at_s
            )
            self._bring_into_force(history, _replaced(history.versions, chosen), version_id)
        return self.read()

    def reject(self, version_id: str, reason: str) -> History:
        """Turn a version down for good. Raises NotFound, or InvalidRequest when it is in force."""
        with self._changing() as history:
            version = history.find(version_id)
            if version_id == history.active:
                raise InvalidRequest(
                    "this version is in force: roll back to another one", param="id"
                )
            turned_down = msgspec.structs.replace(version, stage="rejected", reason=reason)
            self._write(_State(versions=_replaced(history.versions, turned_down)))
        return self.read()

    def roll_back(self, version_id: str, reason: str, at_s: float) -> History:
        """Return to a version that was in force before.

        Raises NotFound, or InvalidRequest when it never was, is now, or cannot be loaded.
        """
        with self._changing() as history:
            version = history.find(version_id)
            if version.promoted_s is None:
                raise InvalidRequest("this version was never in force: promote it", param="id")
            self._check_loadable(history, version)
            back = msgspec.structs.replace(
                version, stage="promoted", reason=reason, promoted_s=at_s
            )
            versions = _replaced(history.versions, back)
            if history.serving is not None:
                left = msgspec.structs.replace(
                    history.serving, stage="rolled_back", reason=f"rolled back to {version_id}"
                )
                versions = _replaced(versions, left)
            self._bring_into_force(history, versions, version_id)
        return self.read()

    def forget_artifacts(self) -> None:
        """Remove old artifacts of versions that were turned down; they stay in the history."""
        with self._changing() as history:
            down = [v for v in history.versions if v.stage == "rejected" and v.promoted_s is None]
            for version in down[:-KEPT_ARTIFACTS]:
                shutil.rmtree(self.artifact(version.id), ignore_errors=True)

    def _check_loadable(self, history: History, version: Version) -> None:
        if version.id == history.active:
            raise InvalidRequest("this version is in force already", param="id")
        try:
            load_suite(self.artifact(version.id))
        except ArtifactError as error:
            raise InvalidRequest(f"this version cannot be used: {error}", param="id") from error

    def _bring_into_force(
        self, history: History, versions: tuple[Version, ...], version_id: str
    ) -> None:
        self._write(_State(versions=history.versions, pending=_Change(version_id, versions)))
        partial = self._link.with_name(f"active.{secrets.token_hex(4)}.partial")
        partial.symlink_to(Path("versions") / version_id)
        partial.replace(self._link)
        self._settle_on_disk()
        self._write(_State(versions=versions))

    @contextmanager
    def _changing(self) -> Iterator[History]:
        """Hold the lock; what a crash left half done is settled before anything else.

        Raises ConfigError when the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                history = self.read()
                if self._read_state().pending is not None:
                    self._write(_State(versions=history.versions))
                for name in (self._link.name, self.state.stem):
                    for left in self.folder.glob(f"{name}.*.partial"):
                        left.unlink()
                yield history
        except OSError as error:
            text = f"learning.folder: cannot write {self.folder}: {error.strerror or error}"
            raise ConfigError(text) from error

    def _active(self) -> str | None:
        try:
            return Path(os.readlink(self._link)).name
        except FileNotFoundError:
            return None
        except OSError as error:
            text = f"learning.folder: {self._link} must be a link: {error.strerror}"
            raise ConfigError(text) from error

    def _read_state(self) -> _State:
        try:
            state = msgspec.json.decode(self.state.read_bytes(), type=_State)
        except FileNotFoundError:
            return _State()
        except OSError as error:
            text = f"learning.folder: cannot read {self.state}: {error.strerror}"
            raise ConfigError(text) from error
        except UNREADABLE_JSON as error:
            raise ConfigError(f"learning.folder: {self.state}: {error}") from error
        if state.format != FORMAT:
            raise ConfigError(f"{self.state}: format {state.format}; this build reads {FORMAT}")
        return state

    def _write(self, state: _State) -> None:
        partial = self.state.with_name(f"state.{secrets.token_hex(4)}.partial")
        with partial.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.state)
        self._settle_on_disk()

    def _settle_on_disk(self) -> None:
        """Make renames in this folder outlive a loss of power."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _replaced(versions: tuple[Version, ...], changed: Version) -> tuple[Version, ...]:
    return tuple(changed if v.id == changed.id else v for v in versions)


def describe_learning(config: Config) -> dict[str, Any]:
    """What the console and the admin port show, also where nothing is learnt.

    Raises ConfigError when the history cannot be read.
    """
    if config.learning is None:
        return {"enabled": False, "active": None, "versions": [], "last_step": None}
    folder = config.learning.folder
    report = read_report(folder)
    last_step = None if report is None else report.document()
    return {**VersionStore(folder).read().document(), "last_step": last_step}
