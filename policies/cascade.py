"""Whether a cheaper model is worth asking first (FrugalGPT, arXiv 2305.05176; AutoMix, 2310.12963).

If its answer is kept with the probability of its predicted quality, asking it first costs
``c + (1 - q) · C`` where the chosen model costs ``C``. The model for which that is least is asked
first, if that is less than ``C``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import attrgetter

from policies.constraints import is_beyond
from policies.types import Candidate, Cascade, Decision, RoutingFlags

_Read = Callable[[Candidate], float | None]

#: What two answers come to together: of the limit's quantity, what the one not kept adds.
_TOGETHER: tuple[tuple[str, _Read, _Read], ...] = (
    ("max_cost_usd", attrgetter("cost_usd"), attrgetter("cost_usd")),
    ("max_ttft_ms", attrgetter("ttft_ms"), attrgetter("latency_ms")),
    ("max_latency_ms", attrgetter("latency_ms"), attrgetter("latency_ms")),
)
NOT_WORTH_IT = "no cheaper model is worth asking first"


def with_first_try(decision: Decision, flags: RoutingFlags, cascade: Cascade) -> Decision:
    """Name in the plan who is asked first, or why nobody is."""
    chosen = next(e.candidate for e in decision.evaluated if e.candidate.model == decision.chosen)
    verifier = _named(decision, cascade.verifier)
    worthy = sorted(
        _worthy(decision, chosen, cascade), key=lambda c: (_expected_usd(c, chosen), c.model)
    )
    if not worthy:
        return replace(decision, no_first_try=NOT_WORTH_IT)
    limits = [
        (name, limit, read, read_added)
        for name, read, read_added in _TOGETHER
        if name not in decision.relaxed and (limit := getattr(flags, name)) is not None
    ]
    broken = ""
    for candidate in worthy:
        asked = [candidate] if cascade.verifier is None else [candidate, verifier]
        broken = next(
            (
                name
                for name, limit, read, read_added in limits
                if is_beyond(name, _sum(read(chosen), *map(_reader(read_added), asked)), limit)
            ),
            "",
        )
        if not broken:
            return replace(decision, first_try=candidate.model)
    return replace(decision, no_first_try=f"two answers together may break {broken}")


def _worthy(decision: Decision, chosen: Candidate, cascade: Cascade) -> Iterator[Candidate]:
    """Feasible models that are cheaper to ask first than not at all, and that can be judged."""
    for evaluated in decision.evaluated:
        candidate = evaluated.candidate
        if not evaluated.is_feasible or candidate is chosen:
            continue
        if candidate.cost_usd is None or chosen.cost_usd is None:
            continue
        declared = candidate.capabilities
        tells = declared is None or "logprobs" in declared
        if not tells and cascade.verifier is None:
            continue
        if _expected_usd(candidate, chosen) < chosen.cost_usd:
            yield candidate


def _expected_usd(candidate: Candidate, chosen: Candidate) -> float:
    assert candidate.cost_usd is not None and chosen.cost_usd is not None  # noqa: S101, PT018
    return candidate.cost_usd + (1 - candidate.quality) * chosen.cost_usd


def _named(decision: Decision, name: str | None) -> Candidate | None:
    return next((e.candidate for e in decision.evaluated if e.candidate.model == name), None)


def _reader(read: _Read) -> Callable[[Candidate | None], float | None]:
    return lambda candidate: None if candidate is None else read(candidate)


def _sum(*parts: float | None) -> float | None:
    """The sum, unknown where a part is."""
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
