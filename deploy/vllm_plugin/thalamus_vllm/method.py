"""vLLM's unquantised experts, replaced where ours do the same; vLLM's choice stays otherwise."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import vllm.model_executor.layers.fused_moe.modular_kernel as mk
from vllm.logger import init_logger
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig
from vllm.model_executor.layers.fused_moe.topk_weight_and_reduce import TopKWeightAndReduceNoOP
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import (
    UnquantizedFusedMoEMethod,
)

from thalamus_vllm.operator import experts

logger = init_logger("vllm.thalamus")
#: vLLM's back ends that keep weights as the checkpoint has them, which is how our kernels read them.
KEEP_WEIGHTS = {"TRITON", "CPU"}
_layers = itertools.count()


class ThalamusExperts(mk.FusedMoEExpertsModular):
    """The experts' step of vLLM's modular kernel; composes with its ways of dispatching tokens."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.layer = next(_layers)

    @staticmethod
    def activation_format() -> mk.FusedMoEActivationFormat:
        return mk.FusedMoEActivationFormat.Standard

    @staticmethod
    def _supports_current_device() -> bool:
        return True

    @staticmethod
    def _supports_no_act_and_mul() -> bool:
        return False

    @staticmethod
    def _supports_quant_scheme(weight_key: Any, activation_key: Any) -> bool:
        return weight_key is None and activation_key is None

    @staticmethod
    def _supports_activation(activation: MoEActivation) -> bool:
        return activation == MoEActivation.SILU

    @staticmethod
    def _supports_parallel_config(moe_parallel_config: Any) -> bool:
        return True

    def supports_expert_map(self) -> bool:
        return True

    def finalize_weight_and_reduce_impl(self) -> TopKWeightAndReduceNoOP:
        return TopKWeightAndReduceNoOP()  # the second launch has weighted, the sum has reduced

    def workspace_shapes(
        self, M: int, N: int, K: int, *_: Any
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (0,), (0,), (M, K)

    def apply(
        self,
        output: torch.Tensor,
        hidden_states: torch.Tensor,
        w1: torch.Tensor,
        w2: torch.Tensor,
        topk_weights: torch.Tensor,
        topk_ids: torch.Tensor,
        activation: MoEActivation,
        global_num_experts: int,
        expert_map: torch.Tensor | None,
        a1q_scale: torch.Tensor | None,
        a2_scale: torch.Tensor | None,
        workspace13: torch.Tensor,
        workspace2: torch.Tensor,
        expert_tokens_meta: Any,
        apply_router_weight_on_input: bool,
    ) -> None:
        experts(
            output,
            hidden_states,
            w1,
            w2,
            topk_weights,
            topk_ids,
            expert_map,
            apply_router_weight_on_input,
            self.layer,
        )


class ThalamusFusedMoEMethod(UnquantizedFusedMoEMethod):
    """Lets vLLM choose first; replaces the choice where ``refusal`` finds nothing against it."""

    def __init__(self, moe: FusedMoEConfig) -> None:
        super().__init__(moe)
        stock = getattr(self.experts_cls, "__name__", "its own experts")
        why = refusal(moe, self.unquantized_backend.name)
        if why:
            logger.warning_once("thalamus: vLLM keeps %s: %s", stock, why)
            return
        logger.info_once("thalamus: ThalamusExperts replaces %s", stock)
        self.experts_cls = ThalamusExperts


def refusal(moe: FusedMoEConfig, backend: str) -> str | None:
    """Why our experts cannot stand in, or None."""
    if backend not in KEEP_WEIGHTS:
        return f"its {backend} back end rearranges the weights"
    if moe.has_bias:
        return "the experts have biases"
    batched = moe.moe_parallel_config.use_batched_activation_format
    formats = mk.FusedMoEActivationFormat
    fits, why = ThalamusExperts.is_supported_config(
        ThalamusExperts, moe, None, None, formats.BatchedExperts if batched else formats.Standard
    )
    return None if fits else why


def register() -> None:
    """Stand in for ``UnquantizedFusedMoEMethod`` wherever vLLM makes one."""
    UnquantizedFusedMoEMethod.register_oot(ThalamusFusedMoEMethod, name="UnquantizedFusedMoEMethod")
