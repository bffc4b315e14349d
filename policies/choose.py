"""The one entry: filter, weigh, rank, and say why."""

from __future__ import annotations

from collections.abc import Sequence

from policies.constraints import find_violations
from policies.infeasible import Verdict, excess, firm_part, infeasible, relax
from policies.objective import Weighed, rank, weigh
from policies.pareto import pareto_front
from policies.reason import ONLY_ONE, explain_choice, explain_effort, explain_promise
from policies.types import Candidate, Decision, Evaluated, Guarantee, Needs, RoutingFlags


def choose(candidates: Sequence[Candidate], flags: RoutingFlags, needs: Needs) -> Decision:
    """Plan who answers: the feasible candidates, best first, which is also the fallback order.

    Candidates must have distinct names; their order has no influence on the plan, and ``evaluated``
    keeps it. Under a guarantee the plan follows its order in place of the objective. When nobody is
    feasible, ``flags.on_infeasible`` decides:

    - ``error`` raises;
    - ``relax`` gives up the limits named in ``Decision.relaxed``, which then count for nobody;
    - ``best_effort`` keeps the limits and ranks by the least total excess over them (then by the
      objective). ``relaxed`` names those that the winner breaks; in ``evaluated`` they stay broken.

    Raises Infeasible with the binding constraint and the nearest feasible value.
    """
    verdicts = find_violations(candidates, flags, needs)
    relaxed: tuple[str, ...] = ()
    if all(verdicts):
        if flags.on_infeasible == "best_effort":
            return _best_effort(candidates, verdicts, flags)
        if flags.on_infeasible == "relax":
            relaxed, verdicts = relax(verdicts, flags.clamps)
        if all(verdicts):
            raise infeasible(candidates, verdicts)
    pool = [c for c, verdict in zip(candidates, verdicts, strict=True) if not verdict]
    if len(candidates) == 1:
        return _only(pool[0], flags, relaxed)
    weighed = weigh(pool, flags)
    order = rank(pool, weighed.values)
    promised = flags.guarantee if "guarantee" not in relaxed else None
    if promised is not None:
        order.sort(key=lambda place: promised.order.index(pool[place].model))
    front = pareto_front(pool)
    places = iter(range(len(pool)))
    evaluated = tuple(
        Evaluated(c, verdict, False, None)
        if verdict
        else Evaluated(c, (), (place := next(places)) in front, weighed.values[place])
        for c, verdict in zip(candidates, verdicts, strict=True)
    )
    return Decision(
        order=tuple(pool[place].model for place in order),
        evaluated=evaluated,
        reason=_reason(pool, weighed, order, flags, promised),
        relaxed=relaxed,
    )


def _reason(
    pool: Sequence[Candidate],
    weighed: Weighed,
    order: Sequence[int],
    flags: RoutingFlags,
    promised: Guarantee | None,
) -> str:
    if flags.is_pinned:
        return "pinned"
    return explain_choice(pool, weighed, order) if promised is None else explain_promise(promised)


def _only(candidate: Candidate, flags: RoutingFlags, relaxed: tuple[str, ...]) -> Decision:
    """What the general way comes to for one candidate: every cost scales to nothing."""
    return Decision(
        order=(candidate.model,),
        evaluated=(Evaluated(candidate, (), True, 1 - candidate.quality),),
        reason="pinned" if flags.is_pinned else ONLY_ONE,
        relaxed=relaxed,
    )


def _best_effort(
    candidates: Sequence[Candidate], verdicts: Sequence[Verdict], flags: RoutingFlags
) -> Decision:
    firm = [firm_part(verdict, flags.clamps) for verdict in verdicts]
    admitted = [index for index, verdict in enumerate(firm) if not verdict]
    if not admitted:
        raise infeasible(candidates, firm)
    pool = [candidates[index] for index in admitted]
    totals = [sum(excess(v) for v in verdicts[index]) for index in admitted]
    # Sorting is stable, so candidates that miss by the same keep the order of the objective.
    order = sorted(rank(pool, weigh(pool, flags).values), key=totals.__getitem__)
    broken = verdicts[admitted[order[0]]]
    return Decision(
        order=tuple(pool[place].model for place in order),
        evaluated=tuple(
            Evaluated(c, verdict, False, None)
            for c, verdict in zip(candidates, verdicts, strict=True)
        ),
        reason="pinned" if flags.is_pinned else explain_effort(broken),
        relaxed=tuple(violation.constraint for violation in broken),
    )
