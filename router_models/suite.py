"""All routers of one artifact: they share an encoder, and a prompt is read once for each question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from router_models.perceptive.model import PerceptiveRouter
from router_models.retriever.model import RetrieverRouter
from router_models.types import DataError, Router

RouterName = Literal["perceptive", "retriever"]
DEFAULT_KIND = "perceptive"


@dataclass(frozen=True, slots=True)
class RouterSuite:
    """``retriever`` is None where an artifact was trained without pilots."""

    perceptive: PerceptiveRouter
    retriever: RetrieverRouter | None = None

    @property
    def version(self) -> str:
        return self.perceptive.version

    @property
    def names(self) -> tuple[RouterName, ...]:
        """The routers that there are."""
        return ("perceptive",) if self.retriever is None else ("perceptive", "retriever")

    def named(self, name: str) -> Router | None:
        """Return a router by its name; None where the artifact has none of that name."""
        return {"perceptive": self.perceptive, "retriever": self.retriever}.get(name)


def named_router(suite: RouterSuite, name: str) -> Router:
    """Return a router by its name. Raises DataError naming those that there are."""
    router = suite.named(name)
    if router is None:
        raise DataError(f"this artifact has no {name} router; it has {', '.join(suite.names)}")
    return router
