"""A Mixture-of-Experts layer in two launches, and the gating before it. Needs torch and triton."""

from fused_experts.launch import fused_experts
from fused_experts.reference import reference
from fused_experts.weights import ExpertWeights, quantised

__all__ = ["ExpertWeights", "fused_experts", "quantised", "reference"]
