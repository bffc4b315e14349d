"""Serves a placement made offline (``deploy/placement``) through vLLM's expert load balancer."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from vllm.distributed.eplb.policy import EPLB_POLICIES
from vllm.distributed.eplb.policy.default import DefaultEplbPolicy
from vllm.logger import init_logger

from thalamus_vllm.settings import read_settings

logger = init_logger("vllm.thalamus")


class PlacedExperts(DefaultEplbPolicy):
    """The map of a file while the server has the layers, experts and ranks it was made for."""

    placement: torch.Tensor | None = None
    ranks = 0

    @classmethod
    def rebalance_experts(
        cls,
        weight: torch.Tensor,
        num_replicas: int,
        num_groups: int,
        num_nodes: int,
        num_ranks: int,
        old_global_expert_indices: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """physical_to_logical [layers, replicas]: the experts of rank 0, then of rank 1, and so on."""
        placed = cls.placement
        wanted = (weight.shape[0], num_replicas)
        if placed is not None and tuple(placed.shape) == wanted and num_ranks == cls.ranks:
            return placed.clone()
        logger.warning_once(
            "thalamus: the placement is for %s slots on %s ranks, the server has %s on %s: "
            "vLLM's own policy places",
            None if placed is None else tuple(placed.shape),
            cls.ranks,
            wanted,
            num_ranks,
        )
        return super().rebalance_experts(
            weight, num_replicas, num_groups, num_nodes, num_ranks, old_global_expert_indices
        )


def register() -> None:
    """Replace the one policy that vLLM's options can name, if a placement file is given."""
    path = read_settings().placement_file
    if not path:
        return
    stored = json.loads(Path(path).read_text())
    PlacedExperts.placement = torch.tensor(stored["physical_to_logical"], dtype=torch.int64)
    PlacedExperts.ranks = int(stored["gpus"])
    EPLB_POLICIES["default"] = PlacedExperts
    logger.info("thalamus: experts are placed as %s says", path)
