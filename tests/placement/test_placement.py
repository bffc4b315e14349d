"""Placements are valid, better than what they start from, and never below the bound."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from expert_placement import baselines
from expert_placement.__main__ import main
from expert_placement.simulate import simulate
from expert_placement.solve import crossing, lower_bound, place
from expert_placement.trace import Ints, read_trace, routing_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("default")]
checked = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def trace_of(seed: int, tokens: int, layers: int, experts: int, k: int = 2) -> Ints:
    """Tokens of a few topics, each with its favourite experts in every layer."""
    random = np.random.default_rng(seed)
    topic = random.integers(0, 4, tokens)
    taste = random.gumbel(size=(4, layers, experts)) * 2
    scores = taste[topic] + random.gumbel(size=(tokens, layers, experts))
    return np.argsort(-scores, axis=2)[:, :, :k]


@checked
@given(st.integers(0, 2**31), st.integers(2, 4), st.sampled_from([(8, 2), (8, 4), (12, 3)]))
def test_a_placement_is_valid_and_no_worse_than_packing(
    seed: int, layers: int, sizes: tuple[int, int]
) -> None:
    experts, gpus = sizes
    routing = routing_of(trace_of(seed, 120, layers, experts), experts)
    found = place(routing, gpus, deadline_s=5, slack=0.2)
    for layer, load in zip(found.gpu_of, routing.load, strict=True):
        assert np.bincount(layer, minlength=gpus).tolist() == [experts // gpus] * gpus
        packing = baselines.packed(load[None], gpus)[0]
        heaviest = max(np.bincount(packing, weights=load))
        allowed = max(load.sum() / gpus * 1.2, heaviest)
        assert max(np.bincount(layer, weights=load)) <= allowed + 1e-9
    assert found.bound <= found.crossing == crossing(routing, found.gpu_of)
    assert found.crossing <= crossing(routing, baselines.packed(routing.load, gpus))
    assert found.seconds < 10


@checked
@given(st.integers(0, 2**31))
def test_the_bound_and_the_optimum_of_small_problems(seed: int) -> None:
    routing = routing_of(trace_of(seed, 60, 2, 4), 4)
    halves = [np.array(h) for h in itertools.product((0, 1), repeat=4) if sum(h) == 2]
    best = min(crossing(routing, np.stack(pair)) for pair in itertools.product(halves, halves))
    found = place(routing, 2, deadline_s=5, slack=10.0)
    assert lower_bound(routing, 2) <= best <= found.crossing


def test_planted_groups_are_found() -> None:
    random = np.random.default_rng(0)
    group = random.integers(0, 4, 2000)
    hidden = np.stack([random.permutation(32) for _ in range(6)])
    member = random.integers(0, 8, (2000, 6))
    ids = hidden[np.arange(6), group[:, None] * 8 + member][:, :, None]
    routing = routing_of(ids, 32)
    found = place(routing, 4, deadline_s=20, slack=0.3)
    assert found.crossing == 0
    assert found.gap == 0


def test_the_simulator_counts_by_hand() -> None:
    ids = np.array([[[0, 1], [2, 3]], [[0, -1], [0, 2]]])
    gpu_of = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
    cost = simulate(ids, gpu_of, 2, hidden=10)
    # token 0 lives on GPU 0 and visits 1 in layer 1; token 1 on GPU 1 visits 0 in both layers
    assert cost.dispatch_bytes == 2 * 3 * 20
    # token 0: four moves from GPU 0 to 1; token 1: one of its two moves
    assert cost.move_bytes == 5 * 20
    assert cost.imbalance == pytest.approx((2 + 1.5) / 2)


def test_the_command_writes_what_the_policy_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, out = tmp_path / "trace.npz", tmp_path / "placement.json"
    np.savez(trace, ids=trace_of(1, 200, 3, 8), experts=8)
    main([str(trace), "--gpus", "4", "--out", str(out), "--deadline", "3"])
    stored = json.loads(out.read_text())
    assert stored["gpus"] == 4
    for experts in stored["physical_to_logical"]:
        assert sorted(experts) == list(range(8))
    printed = capsys.readouterr().out
    assert "vLLM's balancer" in printed
    assert "of the optimum" in printed


@pytest.mark.parametrize(
    ("stored", "gpus", "message"),
    [
        ({"ids": np.zeros((4, 2, 1), int)}, "2", "a trace has ids and experts"),
        ({"ids": np.full((4, 2, 1), 9), "experts": 8}, "2", "below 8"),
        ({"ids": np.zeros((4, 2, 1), int), "experts": 8}, "3", "evenly on 3 GPUs"),
    ],
)
def test_a_bad_trace_is_one_clear_line(
    tmp_path: Path, stored: dict[str, object], gpus: str, message: str
) -> None:
    np.savez(tmp_path / "trace.npz", **stored)
    with pytest.raises(SystemExit, match=message):
        main([str(tmp_path / "trace.npz"), "--gpus", gpus, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_trace_survives_its_file(tmp_path: Path) -> None:
    ids = trace_of(3, 10, 2, 4)
    np.savez(tmp_path / "trace.npz", ids=ids, experts=4)
    read, experts = read_trace(tmp_path / "trace.npz")
    assert experts == 4
    assert np.array_equal(read, ids)
