"""The traffic of the last minutes as the console shows it, from rows in memory; no prompt is kept."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, quantiles, stdev
from typing import Any

from gateway.ledger.accounting import NANOS_PER_USD, RECENT_ROWS, LedgerRow
from gateway.telemetry.comparisons import BASELINES

#: Rows told one by one; the sums are of all that are kept.
_SHOWN = 100
#: Half the width of a 95 % interval in standard errors.
_Z = 1.96


def traffic_document(rows: Sequence[LedgerRow], *, tells_keys: bool) -> dict[str, Any]:
    """Sums, shares and savings of these rows, the oldest first, and the newest of them one by one.

    ``tells_keys`` adds whose each request was, which only operators may know.
    """
    return {
        "kept": RECENT_ROWS,
        "since_s": rows[0].at_s if rows else None,
        "totals": _totals(rows),
        "models": _shares(rows),
        "baselines": _baselines(rows),
        "requests": [_shown(row, tells_key=tells_keys) for row in reversed(rows[-_SHOWN:])],
    }


def _totals(rows: Sequence[LedgerRow]) -> dict[str, Any]:
    return {
        "requests": len(rows),
        "outcomes": {
            outcome: sum(row.outcome == outcome for row in rows)
            for outcome in ("ok", "error", "cancelled")
        },
        "fallbacks": sum(row.model != row.chosen_model for row in rows),
        "prompt_tokens": sum(row.usage.prompt_tokens for row in rows),
        "completion_tokens": sum(row.usage.completion_tokens for row in rows),
        "cost_usd": _usd(rows),
        "ttft_ms": _percentiles([row.ttft_ms for row in rows if row.ttft_ms is not None]),
        "duration_ms": _percentiles([row.duration_ms for row in rows]),
    }


def _usd(rows: Sequence[LedgerRow]) -> float | None:
    """What they cost together; None where no price is known of any."""
    nanos = [row.cost_nanos for row in rows if row.cost_nanos is not None]
    return sum(nanos) / NANOS_PER_USD if nanos else None


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    cuts = quantiles(values, n=20, method="inclusive") if len(values) > 1 else [values[0]] * 19
    return {"p50": cuts[9], "p95": cuts[18]}


def _shares(rows: Sequence[LedgerRow]) -> list[dict[str, Any]]:
    """Each model's part of the requests, the busiest first."""
    by_model: dict[str, list[LedgerRow]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
    told = [
        {
            "model": model,
            "requests": len(its),
            "share": len(its) / len(rows),
            "predicted_quality": fmean(row.predicted_quality for row in its),
            "cost_usd": _usd(its),
            "ttft_ms": _percentiles([row.ttft_ms for row in its if row.ttft_ms is not None]),
        }
        for model, its in by_model.items()
    ]
    return sorted(told, key=lambda entry: (-entry["requests"], entry["model"]))


def _baselines(rows: Sequence[LedgerRow]) -> list[dict[str, Any]]:
    """What each baseline would have cost more, in all, and been better by, on average.

    Predictions are compared with predictions; an interval is of 95 % and tells how much these
    requests vary, not how wrong the predictions are.
    """
    told = []
    for place, baseline in enumerate(BASELINES):
        differences = [row.differences[place] for row in rows if row.differences is not None]
        usd = [difference[0] for difference in differences if difference[0] is not None]
        told.append(
            {
                "baseline": baseline,
                "compared": len(differences),
                "cost_usd": _mean_times(usd, len(usd)),
                "quality": _mean_times([difference[1] for difference in differences], 1),
            }
        )
    return told


def _mean_times(values: Sequence[float], factor: int) -> dict[str, float | None] | None:
    """The mean times ``factor``, with its interval where there are enough values for one."""
    if not values:
        return None
    mean = fmean(values) * factor
    if len(values) < 2:
        return {"value": mean, "low": None, "high": None}
    margin = _Z * stdev(values) / sqrt(len(values)) * factor
    return {"value": mean, "low": mean - margin, "high": mean + margin}


def _shown(row: LedgerRow, *, tells_key: bool) -> dict[str, Any]:
    return {
        **({"key": row.principal} if tells_key else {}),
        "request_id": row.request_id,
        "decision_id": row.decision_id,
        "trace_id": row.trace_id,
        "at_s": row.at_s,
        "model": row.model,
        "chosen_model": row.chosen_model,
        "backend": row.backend,
        "profile": row.profile,
        "reason": row.reason,
        "outcome": row.outcome,
        "error_code": row.error_code,
        "attempts": row.attempts,
        "predicted_quality": row.predicted_quality,
        "prompt_tokens": row.usage.prompt_tokens,
        "completion_tokens": row.usage.completion_tokens,
        "is_estimated": row.usage.is_estimated,
        "cost_usd": None if row.cost_nanos is None else row.cost_nanos / NANOS_PER_USD,
        "ttft_ms": row.ttft_ms,
        "duration_ms": row.duration_ms,
    }
