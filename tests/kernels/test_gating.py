"""Every gating against its definition in float64, token by token."""

from __future__ import annotations

import pytest
import torch
from fused_experts import gating
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("default")]
checked = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
seeds = st.integers(0, 2**31)


def logits_of(seed: int, tokens: int, experts: int) -> torch.Tensor:
    return torch.randn(tokens, experts, generator=torch.Generator().manual_seed(seed)) * 2


def ranked(scores: list[float], k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda e: -scores[e])[:k]


@checked
@given(seeds, st.integers(0, 9), st.integers(4, 20), st.integers(1, 4), st.booleans())
def test_softmax(seed: int, tokens: int, experts: int, k: int, renormalise: bool) -> None:
    logits = logits_of(seed, tokens, experts)
    weights, ids = gating.softmax_top_k(logits, k, renormalise=renormalise)
    assert weights.shape == ids.shape == (tokens, k)
    for row, shares, chosen in zip(logits.double().softmax(-1), weights, ids, strict=True):
        best = ranked(row.tolist(), k)
        assert chosen.tolist() == best
        expected = row[best] / (row[best].sum() if renormalise else 1)
        assert torch.allclose(shares.double(), expected, rtol=1e-5)


@checked
@given(seeds, st.integers(1, 3))
def test_grouped(seed: int, kept_groups: int) -> None:
    logits = logits_of(seed, 6, 12)
    weights, ids = gating.grouped_top_k(
        logits, 2, groups=4, kept_groups=kept_groups, renormalise=True
    )
    for row, shares, chosen in zip(logits.double().softmax(-1), weights, ids, strict=True):
        kept = ranked(row.view(4, 3).amax(1).tolist(), kept_groups)
        inside = [p if e // 3 in kept else -1.0 for e, p in enumerate(row.tolist())]
        assert chosen.tolist() == ranked(inside, 2)
        best = row[chosen.long()]
        assert torch.allclose(shares.double(), best / best.sum(), rtol=1e-5)


@checked
@given(seeds, st.sampled_from([1, 4]))
def test_sigmoid_with_bias(seed: int, groups: int) -> None:
    logits, bias = logits_of(seed, 6, 12), logits_of(seed + 1, 1, 12)[0]
    weights, ids = gating.sigmoid_top_k(logits, bias, 3, groups=groups, kept_groups=2, scale=2.5)
    for row, shares, chosen in zip(logits.double().sigmoid(), weights, ids, strict=True):
        biased = (row + bias.double()).tolist()
        if groups > 1:
            sums = [sum(sorted(biased[3 * g : 3 * g + 3])[1:]) for g in range(4)]
            kept = ranked(sums, 2)
            biased = [b if e // 3 in kept else -1e9 for e, b in enumerate(biased)]
        assert chosen.tolist() == ranked(biased, 3)
        best = row[chosen.long()]
        assert torch.allclose(shares.double(), best / best.sum() * 2.5, rtol=1e-5)


@checked
@given(seeds, st.floats(0.05, 1.0), st.booleans())
def test_top_p_keeps_the_fewest_that_reach_the_share(seed: int, p: float, of_all: bool) -> None:
    weights, ids = gating.softmax_top_k(logits_of(seed, 8, 16), 6, renormalise=False)
    shuffled = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    kept, left = gating.drop_tail(weights[:, shuffled], ids[:, shuffled], p, of_all=of_all)
    for shares, chosen, before, order in zip(kept, left, weights, ids, strict=True):
        goal = p * (1.0 if of_all else float(before.sum()))
        number = int((chosen >= 0).sum())
        assert chosen[:number].tolist() == order[:number].tolist()
        assert set(chosen[number:].tolist()) <= {-1}
        assert torch.equal(shares[number:], torch.zeros(6 - number))
        assert float(before[: number - 1].sum()) < goal + 1e-5
        assert number == 6 or float(before[:number].sum()) >= goal - 1e-5
        assert shares.sum().item() == pytest.approx(before.sum().item(), rel=1e-5)
    assert gating.slots_saved(left).item() == pytest.approx((left < 0).sum().item() / left.numel())


@checked
@given(seeds, st.integers(1, 3))
def test_reuse_reads_only_experts_that_someone_chose_first(seed: int, own: int) -> None:
    scores = logits_of(seed, 5, 32).softmax(-1)
    weights, ids = gating.reuse_loaded(scores, 4, own)
    first = scores.topk(own).indices
    assert set(ids[ids >= 0].tolist()) == set(first.reshape(-1).tolist())
    assert (weights[ids < 0] == 0).all()
    assert torch.allclose(weights.sum(-1), torch.ones(5))
    for chosen, mine in zip(ids, first, strict=True):
        assert chosen[:own].tolist() == mine.tolist()


def test_reuse_with_all_its_own_is_plain_top_k() -> None:
    logits = logits_of(3, 5, 16)
    plain = gating.softmax_top_k(logits, 4, renormalise=True)
    reused = gating.reuse_loaded(logits.softmax(-1), 4, 4)
    assert torch.equal(plain[1], reused[1])
    assert torch.allclose(plain[0], reused[0])
