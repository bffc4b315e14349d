"""What the plugin reads from the environment: vLLM has no other place for a plugin's settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast


@dataclass(frozen=True)
class Settings:
    """``THALAMUS_EXPERTS_…``; docs/vllm.md has the meaning of each.

    ``top_p`` below 1 and ``reuse`` above 0 change the model's answers.
    """

    enabled: bool = True
    kernel: Literal["auto", "triton", "torch"] = "auto"
    top_p: float = 1.0
    reuse: int = 0
    trace_file: str = ""
    placement_file: str = ""


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings; ValueError names the variable that is wrong and what it may be."""

    def value(name: str, default: str = "") -> str:
        return environment.get(f"THALAMUS_EXPERTS{name}", default)

    kernel = value("_KERNEL", "auto")
    if kernel not in {"auto", "triton", "torch"}:
        raise ValueError(f"THALAMUS_EXPERTS_KERNEL is {kernel!r}: auto, triton or torch")
    top_p, reuse = float(value("_TOP_P", "1")), int(value("_REUSE", "0"))
    if not 0 < top_p <= 1:
        raise ValueError(f"THALAMUS_EXPERTS_TOP_P is {top_p}: above 0, at most 1")
    if reuse < 0:
        raise ValueError(f"THALAMUS_EXPERTS_REUSE is {reuse}: a number of experts, 0 for off")
    return Settings(
        enabled=value("", "1") != "0",
        kernel=cast(Literal["auto", "triton", "torch"], kernel),
        top_p=top_p,
        reuse=reuse,
        trace_file=value("_TRACE"),
        placement_file=value("_PLACEMENT"),
    )
