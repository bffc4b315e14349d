"""What a decision is made from and what it says: frozen values, no behaviour beyond their laws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

OnInfeasible = Literal["error", "relax", "best_effort"]
Explain = Literal["none", "summary", "full"]
#: What ``min_quality`` is held against: the prediction, or the lower end of its interval.
QualityBound = Literal["mean", "low"]
RouterName = Literal["perceptive", "retriever", "ensemble"]

#: The soft goals of the objective (Tryage, arXiv 2308.11601), each a cost to keep low.
GOALS = ("cost", "latency", "size", "recency", "security", "verbosity", "readability")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model considered for one request: what is predicted of it and what is declared.

    Predicted values hold for this prompt. ``None`` means unknown, never zero.
    """

    model: str
    quality: float
    quality_low: float
    quality_high: float
    cost_usd: float | None
    output_tokens: float
    ttft_ms: float | None
    latency_ms: float | None
    context_tokens: int | None = None
    parameters_b: float | None = None
    released_day: int | None = None
    security_level: int | None = None
    readability: float | None = None
    capabilities: frozenset[str] | None = None
    is_usable: bool = True
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """What the request itself demands of any model that answers it."""

    context_tokens: int = 0
    capabilities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A promise that at most ``risk`` of the answers given under it fail; see policies.guarantee.

    ``order`` is who is asked first, second, …, and ``threshold`` the least predicted quality that
    keeps the promise for that order; None where no promise can be made.
    """

    risk: float
    confidence: float
    order: tuple[str, ...] = ()
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Cascade:
    """Ask a cheaper model first and keep its answer where that is sure enough; see policies.cascade.

    ``accept`` in [0, 1] is how sure: the mean probability (geometric) that the answer's own tokens
    had, or with a ``verifier`` the probability that this model finds the answer right.
    """

    accept: float
    verifier: str | None = None


@dataclass(frozen=True, slots=True)
class RoutingFlags:
    """The effective routing flags of one request, after precedence and clamps.

    ``weights`` holds the λ of each goal; a goal that is absent weighs nothing.
    ``willingness_to_pay_usd``, what 0.1 of quality is worth, replaces the weight of cost.
    ``clamps`` are the bounds of the key's policy by constraint name: where a limit is relaxed, they
    still hold. Each limit must be at least as tight as its clamp. ``asks_objective`` says that some
    layer set the objective or a weight, so that a Policy leaves them alone.
    """

    objective: str = "best"
    weights: Mapping[str, float] = field(default_factory=dict)
    min_quality: float | None = None
    quality_bound: QualityBound = "mean"
    max_cost_usd: float | None = None
    max_ttft_ms: float | None = None
    max_latency_ms: float | None = None
    max_input_usd_per_mtok: float | None = None
    max_output_usd_per_mtok: float | None = None
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    on_infeasible: OnInfeasible = "error"
    explain: Explain = "summary"
    session_id: str | None = None
    router: RouterName = "perceptive"
    willingness_to_pay_usd: float | None = None
    guarantee: Guarantee | None = None
    cascade: Cascade | None = None
    clamps: Mapping[str, float] = field(default_factory=dict)
    is_pinned: bool = False
    #: Where the flags came from is no part of what they say, so equal flags may differ in it.
    asks_objective: bool = field(default=False, compare=False)

    @property
    def needs_quality(self) -> bool:
        """Whether a predicted quality can make a named model infeasible."""
        return self.min_quality is not None or self.guarantee is not None


@dataclass(frozen=True, slots=True)
class Exploration:
    """How a ``share`` of the choices, in [0, 1], is made to learn from.

    ``epsilon`` draws evenly, ``thompson`` by each model's chance to be the best one given how
    uncertain its predicted quality is. Only feasible models take part, and of these only such whose
    objective is at most ``within`` above the best one; None is no bound.
    """

    method: Literal["epsilon", "thompson"]
    share: float
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides where a request leaves it open: the lowest layer of all flags.

    ``weights`` are the whole objective, or None for the default one.
    """

    name: str = "default"
    objective: str | None = None
    weights: Mapping[str, float] | None = None
    min_quality: float | None = None
    max_cost_usd: float | None = None
    max_ttft_ms: float | None = None
    max_latency_ms: float | None = None
    exploration: Exploration | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a choice is made from, apart from the policy that makes it.

    ``flags`` are those of the request, before a policy fills what they leave open. ``draw`` in
    [0, 1) is the choice's only randomness. ``stay_with`` is the model that a conversation is bound
    to, if it may be: it is chosen wherever it is feasible. ``is_fallback`` says that no conversation
    is, and that ``stay_with`` is who answers prompts that no router knows anything of.
    """

    candidates: tuple[Candidate, ...]
    flags: RoutingFlags
    needs: Needs
    draw: float = 0.0
    stay_with: str | None = None
    is_fallback: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """A constraint that a candidate breaks: the limit asked for and the value it would have."""

    constraint: str
    limit: float | None
    actual: float | None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A candidate with the verdict on it. ``objective_value`` is None when it is not feasible."""

    candidate: Candidate
    violated: tuple[Violation, ...]
    is_on_pareto_front: bool
    objective_value: float | None

    @property
    def is_feasible(self) -> bool:
        return not self.violated


@dataclass(frozen=True, slots=True)
class Decision:
    """The plan for one request.

    ``order`` is who to try, best first; ``relaxed`` names the limits that were given up. Under a
    cascade ``first_try`` is asked before them, or ``no_first_try`` says why nobody is.
    """

    order: tuple[str, ...]
    evaluated: tuple[Evaluated, ...]
    reason: str
    relaxed: tuple[str, ...] = ()
    first_try: str | None = None
    no_first_try: str | None = None

    @property
    def chosen(self) -> str:
        return self.order[0]


class Infeasible(Exception):
    """No candidate honours every hard constraint.

    ``binding`` is the constraint that stands alone between the request and its nearest candidate;
    ``nearest`` is the value of that limit which would have let it through, None where the
    constraint has no number.
    """

    def __init__(self, binding: str, nearest: float | None, message: str) -> None:
        super().__init__(message)
        self.binding = binding
        self.nearest = nearest
