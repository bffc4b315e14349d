"""What the last step of ``thalamus learn`` came to, left in its folder for gateways to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import UNREADABLE_JSON, ConfigError
from router_models.files import replace_file


class Labels(msgspec.Struct, frozen=True):
    """Scores to learn from: of how many prompts, and how many of each model's answers."""

    prompts: int = 0
    by_model: dict[str, int] = {}


class StepReport(msgspec.Struct, frozen=True, kw_only=True):
    """The latest step. Times are seconds since the epoch, None for never.

    ``every_s`` is how often steps are taken, None where somebody takes them one by one; ``logged``
    are the scores in the decision log, ``measured`` those of the files named under ``learning.data``.
    """

    said: str
    is_good: bool
    good_s: float | None = None
    failed_s: float | None = None
    every_s: float | None = None
    logged: Labels = Labels()
    measured: Labels = Labels()

    @property
    def ended_s(self) -> float:
        return (self.good_s if self.is_good else self.failed_s) or 0.0

    def document(self) -> dict[str, Any]:
        """What the console and the admin port show."""
        return {
            "ended_s": self.ended_s,
            "is_good": self.is_good,
            "said": self.said,
            "every_s": self.every_s,
        }


def report_path(folder: Path) -> Path:
    """Where the report of the last step lies."""
    return folder / "last-step.json"


def read_report(folder: Path) -> StepReport | None:
    """What the last step came to, None before the first. Raises ConfigError when it cannot be read."""
    path = report_path(folder)
    try:
        return msgspec.json.decode(path.read_bytes(), type=StepReport)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"learning.folder: cannot read {path}: {error.strerror}") from error
    except UNREADABLE_JSON as error:
        raise ConfigError(f"learning.folder: {path}: {error}") from error


def write_report(folder: Path, report: StepReport) -> None:
    """Leave a report, whole or not at all. Raises DataError when it cannot be written."""
    replace_file(report_path(folder), msgspec.json.encode(report) + b"\n")
