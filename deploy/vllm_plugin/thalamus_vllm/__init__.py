"""Puts the fused experts into a stock vLLM server, through its entry point for general plugins.

vLLM calls ``register`` in every process, perhaps more than once, before any device is touched.
"""

from __future__ import annotations

import logging

#: The releases whose seams were tried.
VLLM_FROM, VLLM_BELOW = (0, 32), (0, 34)
logger = logging.getLogger("vllm.thalamus")  # a child of "vllm" prints as vLLM's own lines do
_registered = False


def register() -> None:
    """Register the experts, the gating and the metrics, or say once why not."""
    global _registered
    if _registered:
        return
    _registered = True
    import vllm

    from thalamus_vllm.settings import read_settings

    if not read_settings().enabled:
        return
    version = tuple(int(part) for part in vllm.__version__.split(".")[:2] if part.isdigit())
    if not VLLM_FROM <= version < VLLM_BELOW:
        logger.warning(
            "thalamus: made for vLLM 0.32 and 0.33, not %s: vLLM's own experts stay",
            vllm.__version__,
        )
        return
    from thalamus_vllm import method, metrics, placement, routing

    method.register()
    routing.register()
    placement.register()
    metrics.register()
