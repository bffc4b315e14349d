"""A promise about risk: of the answers given under it, at most a share fails, with a stated confidence.

The rule that is promised for is: ask the first model of a fixed order whose predicted quality reaches
a threshold. On calibration outcomes the threshold is loosened step by step, from one that serves few
prompts to one that serves all; each step tests by Clopper and Pearson's exact bound that the rule
fails too often, and the last threshold before the first step that cannot rule this out is taken.
Tests in an order fixed by the predictions alone need no correction for their number (fixed-sequence
testing; Bauer and Uddin's conformal gate, "Learn then Test", arXiv 2110.01052). The promise holds over
the draw of the calibration prompts, for prompts drawn like them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, fsum, lgamma, log, log1p

#: The first step serves this many times the fewest prompts that could prove anything.
_FIRST_STEP = 2.0
#: Each step serves this many times the prompts of the one before.
_STEP = 1.15


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Calibration prompts: what was predicted of every model, and which models then failed.

    ``predicted`` and ``failed`` have one row a prompt and one column a model, as ``models`` names
    them.
    """

    models: tuple[str, ...]
    predicted: tuple[tuple[float, ...], ...]
    failed: tuple[tuple[bool, ...], ...]

    def of(self, order: Sequence[str]) -> Outcomes:
        """Keep the models named, in that order."""
        columns = [self.models.index(model) for model in order]
        return Outcomes(
            tuple(order),
            tuple(tuple(row[c] for c in columns) for row in self.predicted),
            tuple(tuple(row[c] for c in columns) for row in self.failed),
        )


def calibrate(outcomes: Outcomes, risk: float, confidence: float) -> float | None:
    """Find the least predicted quality at which asking the first model in order keeps the promise.

    ``risk`` and ``confidence`` lie in (0, 1). None where the outcomes cannot support any promise.
    """
    best = sorted((max(row) for row in outcomes.predicted), reverse=True)
    found = None
    for served in _step_sizes(len(best), risk, confidence):
        threshold = best[served - 1]
        trials, failures = count_failures(outcomes, threshold)
        if binomial_below(failures, trials, risk) > 1.0 - confidence:
            break
        found = threshold
    return found


def count_failures(outcomes: Outcomes, threshold: float) -> tuple[int, int]:
    """Count the prompts that the rule serves at a threshold, and its failures among them."""
    trials = failures = 0
    for predicted, failed in zip(outcomes.predicted, outcomes.failed, strict=True):
        for quality, has_failed in zip(predicted, failed, strict=True):
            if quality >= threshold:
                trials += 1
                failures += has_failed
                break
    return trials, failures


def binomial_below(successes: int, trials: int, chance: float) -> float:
    """Probability of at most so many successes; ``chance`` lies in (0, 1)."""
    if successes >= trials:
        return 1.0
    ratio = log(chance) - log1p(-chance)
    whole = lgamma(trials + 1) + trials * log1p(-chance)
    return fsum(
        exp(whole - lgamma(k + 1) - lgamma(trials - k + 1) + k * ratio)
        for k in range(successes + 1)
    )


def upper_bound(failures: int, trials: int, confidence: float) -> float:
    """Clopper and Pearson's one-sided upper bound on a chance, by bisection to 1e-12."""
    if failures >= trials:
        return 1.0
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        if binomial_below(failures, trials, middle) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def _step_sizes(prompts: int, risk: float, confidence: float) -> list[int]:
    """How many prompts each step serves. Fewer than the first could prove nothing without luck."""
    fewest = log(1.0 - confidence) / log1p(-risk)
    size = ceil(_FIRST_STEP * fewest)
    sizes = []
    while size < prompts:
        sizes.append(size)
        size = ceil(size * _STEP)
    # All prompts, even where they are fewer than the first step: with no failure they may do.
    return [*sizes, prompts] if prompts else []
