"""The policies of a running gateway: one decides, a second may take a share, a third only watches."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Literal

import msgspec

from gateway import settings
from policies.presets import DEFAULT_PROFILE, PROFILES
from policies.select import DEFAULT_POLICY, select
from policies.types import Decision, Exploration, Infeasible, Policy, RoutingFlags, Situation

Arm = Literal["live", "canary"]


class ShadowChoice(msgspec.Struct, frozen=True):
    """What the shadow policy would have chosen; None where it finds nobody feasible."""

    policy: str
    chosen: str | None


class Selected(msgspec.Struct, frozen=True):
    """A choice with everything it was made from.

    ``flags`` are in force after ``policy`` filled those of the situation. ``chances`` tells how
    likely each model is to be chosen in this situation, over both arms.
    """

    situation: Situation
    policy: Policy
    arm: Arm
    plan: Decision
    flags: RoutingFlags
    chances: Mapping[str, float]
    shadow: ShadowChoice | None = None


class Arms:
    def __init__(self, section: settings.Policies) -> None:
        self._live = policy_of(section.live, "live")
        self._canary = None
        self._share = 0.0
        if section.canary is not None:
            self._canary = policy_of(section.canary, "canary")
            self._share = section.canary.share
        self._shadow = None if section.shadow is None else policy_of(section.shadow, "shadow")
        self._explores = any(
            p is not None and p.exploration is not None for p in (self._live, self._canary)
        )

    def select(self, situation: Situation) -> Selected:
        """Decide by the arm that this request falls to, and let the shadow decide beside it.

        Requests of one session fall to the same arm. Raises Infeasible for the arm that decides.
        """
        if self._canary is None:
            arm: Arm = "live"
            policy = self._live
            selection = select(situation, policy)
            chances: Mapping[str, float] = selection.chances
        else:
            is_canary = _arm_draw(situation.flags.session_id) < self._share
            arm = "canary" if is_canary else "live"
            policy, other = (self._canary, self._live) if is_canary else (self._live, self._canary)
            share = self._share if is_canary else 1.0 - self._share
            selection = select(situation, policy)
            chances = _mixed(selection.chances, share, _chances(situation, other))
        return Selected(
            situation=situation,
            policy=policy,
            arm=arm,
            plan=selection.decision,
            flags=selection.flags,
            chances=chances,
            shadow=self._shadowed(situation),
        )

    @property
    def has_shadow(self) -> bool:
        return self._shadow is not None

    @property
    def draws(self) -> bool:
        """Whether a choice depends on chance: on exploring, or on the arm that a request falls to."""
        return self._explores or self._canary is not None

    def draw(self) -> float:
        """The draw of one choice; where nothing is explored it is 0 and means nothing."""
        return _new_draw() if self._explores else 0.0

    def _shadowed(self, situation: Situation) -> ShadowChoice | None:
        if self._shadow is None:
            return None
        try:
            chosen = select(situation, self._shadow).decision.chosen
        except Infeasible:
            chosen = None
        return ShadowChoice(self._shadow.name, chosen)


def policy_of(section: settings.Policy, name: str) -> Policy:
    """Make a policy of its configuration; the default one where that says nothing."""
    if section == settings.Policy():
        return DEFAULT_POLICY
    weights: Mapping[str, float] | None = None
    if section.objective is not None or section.weights:
        weights = {**PROFILES[section.objective or DEFAULT_PROFILE], **section.weights}
    explored = section.exploration
    return Policy(
        name=name,
        objective=section.objective,
        weights=weights,
        min_quality=section.min_quality,
        max_cost_usd=section.max_cost_usd,
        max_ttft_ms=section.max_ttft_ms,
        max_latency_ms=section.max_latency_ms,
        exploration=None
        if explored is None
        else Exploration(explored.method, explored.share, explored.within),
    )


def _new_draw() -> float:
    """A draw in [0, 1) that nobody can foresee."""
    return secrets.randbits(53) * 2.0**-53


def _arm_draw(session_id: str | None) -> float:
    if session_id is None:
        return _new_draw()
    digest = hashlib.blake2b(session_id.encode(), digest_size=6).digest()
    return int.from_bytes(digest) / 2.0**48


def _chances(situation: Situation, policy: Policy) -> Mapping[str, float]:
    try:
        return select(situation, policy).chances
    except Infeasible:
        return {}


def _mixed(
    own: Mapping[str, float], share: float, other: Mapping[str, float]
) -> Mapping[str, float]:
    """Chances over both arms. Where the other arm finds nobody, its share has no answer at all."""
    models = {**own, **other}
    return {m: share * own.get(m, 0.0) + (1.0 - share) * other.get(m, 0.0) for m in models}
