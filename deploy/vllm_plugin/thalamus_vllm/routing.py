"""Gating options on vLLM's own router: fewer experts a token, or experts shared in a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from fused_experts import gating
from vllm.logger import init_logger
from vllm.model_executor.custom_op import PluggableLayer
from vllm.model_executor.layers.fused_moe.runner.moe_runner import MoERunner

from thalamus_vllm.method import ThalamusExperts
from thalamus_vllm.settings import Settings, read_settings

logger = init_logger("vllm.thalamus")
Routing = Callable[..., tuple[torch.Tensor, torch.Tensor]]


class ThalamusMoERunner(MoERunner):
    """vLLM's runner with its router's choice passed through ``changed``."""

    def __init__(self, *args: Any, router: Any, routed_experts: Any, **kwargs: Any) -> None:
        settings = read_settings()
        if settings.top_p < 1 or settings.reuse:
            why = refusal(routed_experts)
            if why:
                logger.warning_once("thalamus: gating options are off: %s", why)
            else:
                router._compute_routing = changed(router._compute_routing, settings)
                logger.info_once(
                    "thalamus: gating changes the model's answers: top_p=%s reuse=%s%s",
                    settings.top_p,
                    settings.reuse,
                    " (not reproducible: depends on the batch)" if settings.reuse else "",
                )
        super().__init__(*args, router=router, routed_experts=routed_experts, **kwargs)


def refusal(routed_experts: Any) -> str | None:
    """Why slots must not be dropped: stock kernels answer wrongly for id −1, without an error."""
    method = getattr(routed_experts, "quant_method", None)
    if getattr(method, "experts_cls", None) is not ThalamusExperts:
        return "the layer's experts are vLLM's own, which do not know dropped slots"
    if routed_experts.moe_config.moe_parallel_config.enable_eplb:
        return "expert load balancing counts every slot"
    return None


def changed(stock: Routing, settings: Settings) -> Routing:
    """``stock`` with the settings' gating after it, weights and ids in the types that it gave."""

    def route(
        hidden_states: torch.Tensor,
        router_logits: torch.Tensor,
        indices_type: torch.dtype | None,
        *,
        input_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weights, ids = stock(hidden_states, router_logits, indices_type, input_ids=input_ids)
        total, k = weights.sum(-1, keepdim=True), ids.shape[1]
        found, left = weights.float(), ids
        if settings.reuse and settings.reuse < k:
            scores = router_logits.float().softmax(-1)
            found, left = gating.reuse_loaded(scores, k, settings.reuse)
            found = found * total
        if settings.top_p < 1:
            found, left = gating.drop_tail(found, left, settings.top_p)
        return found.to(weights.dtype), left.to(ids.dtype)

    return route


def register() -> None:
    """Stand in for ``MoERunner`` wherever vLLM makes one."""
    PluggableLayer.register_oot(ThalamusMoERunner, name="MoERunner")
