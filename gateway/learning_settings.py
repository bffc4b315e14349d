"""The section ``learning`` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from gateway.section import Section


class Learning(Section):
    """Routers trained on scored traffic, judged and promoted by thalamus learn, beside the gateway."""

    folder: Path = Field(
        Path("learning"),
        description="where versions are kept; what is promoted there serves in place of "
        "router.artifact, which is where learning begins",
    )
    data: tuple[Path, ...] = Field(
        (), description="outcomes to learn from beside the log, as thalamus collect writes them"
    )
    router: Literal["perceptive", "ensemble"] = Field(
        "perceptive", description="what to train; an ensemble keeps prompts as text in its artifact"
    )
    held_out: float = Field(
        0.3, gt=0, lt=1, description="share of the prompts to judge on, never trained on"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the intervals that decide")
    min_scored: int = Field(
        200, ge=20, description="scored requests to train on, and new ones before training again"
    )
    min_shadow: int = Field(
        200, ge=1, description="scored requests that a router in shadow is held against"
    )

    @property
    def active(self) -> Path:
        """A link to the version in force; it is replaced in one step."""
        return self.folder / "active"
