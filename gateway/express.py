"""The short way of the commonest requests: text alone, no flags, no tools.

For one that names its model the decision does not depend on the prompt, so it stands until the router
or the configuration is replaced; for ``auto`` it is made. What is left of the story in pipeline.py is
told here without a coroutine: checked, sent to the least busy backend, answered from the callback that
brings the answer, and accounted like any other. Whatever is unusual about a request is left to the
pipeline, and so is every request whose first backend failed: it then goes on to the next one.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Annotated

import msgspec

from gateway.decision.catalog import CatalogModel
from gateway.decision.decide import RoutedDecision
from gateway.decision.endpoints import CHAT
from gateway.decision.features import CHARS_PER_TOKEN, PromptFeatures
from gateway.decision.flags import ModelRequest, parse_flags, plain_auto
from gateway.decision.scoring import KEPT_ASKS, LONGEST_KEPT_ASK, Predictions
from gateway.decision.standing import decide_standing, is_simple
from gateway.errand import Errand
from gateway.errors import UNREADABLE_JSON, GatewayError
from gateway.ledger.savings import compare
from gateway.pipeline import Pipeline
from gateway.routing_headers import routing_headers
from gateway.short_way import GoOn, PlainQuestion, PlainReply, Way
from gateway.strands import Cancellable
from gateway.stream_errand import StreamErrand
from gateway.tenancy.caller import let_in
from gateway.upstream.attempts import Attempt, Trail
from gateway.upstream.backend import BackendHandle
from gateway.upstream.balance import ordered
from policies.types import Needs
from router_models.prompt_text import ask_of

_Count = Annotated[int, msgspec.Meta(ge=0)]


class _StreamOptions(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    include_usage: bool | None = None


class _Usual(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The fields of a request that say nothing of routing; with any other it is not usual."""

    model: str
    messages: msgspec.Raw
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    n: int | None = None
    seed: int | None = None
    stop: msgspec.Raw = msgspec.Raw()
    user: str | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None


_usual = msgspec.json.Decoder(_Usual)
#: Text alone: a part, a call of a tool or anything else that is no string is for the long way.
_messages = msgspec.json.Decoder(list[dict[str, str]])


def _read(body: bytes) -> PlainQuestion:
    """Raises what decoding raises for a body that is not usual."""
    asked = _usual.decode(body)
    messages = _messages.decode(asked.messages)
    limit = asked.max_tokens
    if asked.max_completion_tokens is not None:
        limit = asked.max_completion_tokens
    prompt_tokens = len(bytes(asked.messages)) // CHARS_PER_TOKEN + 1
    options = asked.stream_options
    wants_usage = options is not None and bool(options.include_usage)
    return PlainQuestion(
        body, asked.model, messages, prompt_tokens, limit, bool(asked.stream), wants_usage
    )


#: How long a decision is repeated for the same ask.
REPEATED_S = 1.0
#: What differs from request to request among the headers of an answer.
_VARIABLE_HEADERS = frozenset(
    {
        "x-request-id",
        "x-routing-backend",
        "x-routing-decision-id",
        "x-routing-overhead-ms",
        "x-routing-predicted-cost-usd",
    }
)


class _Decided(msgspec.Struct, frozen=True):
    """A decision that may be repeated: an agent's loop and a chat ask the same thing many times."""

    way: Way
    predictions: Predictions
    at_s: float

    def holds(self, predictions: Predictions, now_s: float) -> bool:
        """Whether the router still says the same, and too little time passed for loads to change."""
        return predictions is self.predictions and now_s - self.at_s <= REPEATED_S


class Express:
    """Tells which requests may take the short way, and sends them on it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._stand = partial(decide_standing, pipeline.catalog, pipeline.decider, pipeline.scorer)
        # One that is hedged, or may be resumed elsewhere, is more than one exchange.
        self._takes_streams = not (pipeline.dispatcher.hedges or pipeline.catalog.resumes)
        #: By the model that was named, until the router is another one.
        self._ways: dict[str, Way] = {}
        self._decided: dict[tuple[str, str, int, int | None], _Decided] = {}

    def take(
        self, reply: PlainReply, body: bytes, go_on: GoOn, kept_in: set[Cancellable]
    ) -> Errand | None:
        """Begin to answer; None where this is for the long way, and then nothing has happened."""
        laps = [self._pipeline.clock.monotonic_s()]
        try:
            principal = self._pipeline.door.authenticate(reply.headers)
            question = _read(body)
        except (GatewayError, *UNREADABLE_JSON):  # told by the long way
            return None
        is_taken = self._takes_streams or not question.is_stream
        if principal.routing is not None or not question.messages or not is_taken:
            return None
        way = self._way(question, laps)
        backend = None if way is None else _least_busy(way.model, laps[-1])
        if way is None or backend is None:
            return None
        tokens, cost_usd = _expected(way, question)
        caller = let_in(principal, question.prompt_tokens + tokens, cost_usd)
        if caller is None:
            return None
        kind = StreamErrand if question.is_stream else Errand
        errand = kind(self._pipeline, reply, go_on, way, backend, caller, cost_usd)
        if errand.begin(question, laps, kept_in):
            return errand
        caller.release()
        return None

    def _way(self, question: PlainQuestion, laps: list[float]) -> Way | None:
        """Who answers; None where that has to be decided with more than is known here."""
        way = self._ways.get(question.model)
        if way is None or way.decision.policy_version != self._pipeline.decider.version:
            auto = plain_auto(question.model)
            if auto is not None:
                return self._decided_way(question, auto, laps)
            standing = self._stand(question.model)
            if standing is None:
                return None
            way = _way(standing.model, standing.decision, standing.output_tokens)
            self._ways[question.model] = way
        window = way.model.config.context_tokens
        return way if window is None or question.context_tokens <= window else None

    def _decided_way(
        self, question: PlainQuestion, auto: ModelRequest, laps: list[float]
    ) -> Way | None:
        """Decide for this prompt, as ``Pipeline.plan`` does, or as a moment ago for the same one."""
        if self._pipeline.scorer.is_slow:  # it reads beside the event loop
            return None
        clock = self._pipeline.clock
        ask = ask_of(question.messages)
        parsed = parse_flags(auto, {}, {})
        laps += (clock.monotonic_s(),) * 2
        predictions = self._pipeline.scorer.score(ask, parsed.flags.router)
        laps.append(clock.monotonic_s())
        key = (question.model, ask, question.prompt_tokens, question.limit)
        known = self._decided.get(key)
        if known is not None and known.holds(predictions, laps[-1]):
            laps.append(laps[-1])
            return known.way
        needs = Needs(question.context_tokens)
        features = PromptFeatures(ask, question.prompt_tokens, question.limit, needs)
        try:
            decision = self._pipeline.decider.decide(CHAT, auto, parsed, features, predictions)
        except GatewayError:  # said by the long way
            return None
        laps.append(clock.monotonic_s())
        model = self._pipeline.catalog.models[decision.plan.chosen]
        if not is_simple(model):
            return None
        way = _way(model, decision, None)
        if not self._pipeline.decider.draws and len(ask) <= LONGEST_KEPT_ASK:
            if len(self._decided) >= KEPT_ASKS:
                self._decided.clear()
            self._decided[key] = _Decided(way, predictions, laps[-1])
        return way


def _expected(way: Way, question: PlainQuestion) -> tuple[float, float | None]:
    """Output tokens expected of an answer, and what it would cost in USD."""
    if way.output_tokens is None:
        chosen = way.decision.chosen
        return chosen.output_tokens, chosen.cost_usd
    tokens, price = way.output_tokens, way.model.list_price
    if question.limit is not None and question.limit < tokens:
        tokens = question.limit
    return tokens, None if price is None else price.cost_usd(question.prompt_tokens, tokens)


def _least_busy(model: CatalogModel, now_s: float) -> BackendHandle | None:
    """The replica to ask first; None where any of them is in trouble."""
    least, least_busy = None, inf
    for backend in model.backends:
        health = backend.health
        if not health.is_sound(now_s):
            return None
        if health.signals is not None and len(model.backends) > 1:
            return ordered(model.backends, model.config.balance, now_s, None)[0]
        if health.inflight < least_busy:
            least, least_busy = backend, health.inflight
    return model.backends[0] if model.config.balance == "listed" else least


def _way(model: CatalogModel, decision: RoutedDecision, output_tokens: float | None) -> Way:
    trail = Trail(attempts=[Attempt(model.name, model.backends[0])])
    headers = routing_headers("", decision, trail, 0.0)
    lines = [f"{name}: {v}\r\n" for name, v in headers.items() if name not in _VARIABLE_HEADERS]
    compared = compare(decision.plan.evaluated, model.name)
    return Way(model, decision, output_tokens, "".join(lines), compared)


def open_express(pipeline: Pipeline) -> Express | None:
    """The short way, where there can be one.

    A decision that is logged, or made by a shadow as well, is kept with all that it was made from.
    """
    keeps_decisions = pipeline.decision_log is not None or pipeline.decider.has_shadow
    return None if keeps_decisions else Express(pipeline)
