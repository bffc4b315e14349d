"""The response headers that explain a decision; the one channel that every client passes on."""

from __future__ import annotations

from gateway.decision.decide import RoutedDecision
from gateway.upstream.attempts import Trail


def routing_headers(
    request_id: str, decision: RoutedDecision, trail: Trail, overhead_s: float
) -> dict[str, str]:
    """Headers for an answer or an error, once a decision exists."""
    served = trail.attempts[-1].model if trail.attempts else decision.plan.chosen
    reason = decision.reason
    if trail.verdict is not None:
        reason = f"{trail.verdict}; {reason}"
    headers = {
        "x-request-id": request_id,
        "x-routing-decision-id": decision.decision_id,
        "x-routing-model": served,
        "x-routing-profile": decision.profile,
        "x-routing-reason": _ascii(reason),
        "x-routing-predicted-quality": f"{decision.chosen.quality:.4f}",
        "x-routing-overhead-ms": f"{overhead_s * 1e3:.2f}",
        "x-routing-attempts": str(trail.count),
        "x-routing-policy-version": decision.policy_version,
    }
    if decision.chosen.cost_usd is not None:
        headers["x-routing-predicted-cost-usd"] = f"{decision.chosen.cost_usd:.9f}"
    if trail.attempts:
        headers["x-routing-backend"] = trail.attempts[-1].backend.name
        if trail.fallback_from is not None:
            headers["x-routing-fallback-from"] = trail.fallback_from
    notes = [*decision.warnings, *(f"relaxed {name}" for name in decision.plan.relaxed)]
    if notes:
        headers["x-routing-warnings"] = _ascii("; ".join(notes))
    return headers


def _ascii(text: str) -> str:
    """A header's value: one line of printable ASCII, bounded."""
    if text.isascii() and text.isprintable():
        return text[:500]
    shown = text.encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else " " for c in shown)[:500]
