"""The placements to beat: vLLM's two fixed strategies and its load balancer's packing."""

from __future__ import annotations

import numpy as np

from expert_placement.trace import Ints


def linear(layers: int, experts: int, gpus: int) -> Ints:
    """``--expert-placement-strategy linear``: the first E/G experts on GPU 0, and so on; [L, E]."""
    return np.tile(np.arange(experts) // (experts // gpus), (layers, 1))


def round_robin(layers: int, experts: int, gpus: int) -> Ints:
    """``--expert-placement-strategy round_robin``."""
    return np.tile(np.arange(experts) % gpus, (layers, 1))


def packed(load: Ints, gpus: int) -> Ints:
    """vLLM's EPLB policy, no expert twice: the heaviest first, on the lightest GPU with room."""
    layers, experts = load.shape
    room = experts // gpus
    gpu_of = np.empty((layers, experts), np.int64)
    for layer in range(layers):
        carried, held = np.zeros(gpus, np.int64), np.zeros(gpus, np.int64)
        for expert in np.argsort(-load[layer]):
            gpu = int(np.argmin(np.where(held < room, carried, np.iinfo(np.int64).max)))
            gpu_of[layer, expert] = gpu
            carried[gpu] += load[layer, expert]
            held[gpu] += 1
    return gpu_of
