"""The sections of the configuration, each a frozen pydantic model; loading is gateway.config's.

An unknown key is an error with its path. What a single value may be is gateway.setting_types'.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from gateway.learning_settings import Learning
from gateway.section import Section as _Section
from gateway.setting_types import (
    BackendUrl,
    CollectorUrl,
    GoalName,
    HeaderName,
    Name,
    ProfileName,
    Secret,
    Share,
    StateUrl,
    Weight,
)

EndpointName = Literal["chat", "completions", "embeddings", "responses", "messages"]
#: The capabilities a model may declare, each demanded by a field of a request.
CAPABILITIES = ("tools", "vision", "json_schema", "logprobs")


class Server(_Section):
    """Where it listens, and how much it takes on."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 is any free one")
    workers: int = Field(1, ge=1, le=256, description="processes that serve")
    max_inflight: int = Field(2048, ge=1, description="requests admitted at once; more get a 503")
    low_share: Share = 0.75
    """Share of max_inflight up to which requests of low priority are admitted."""
    normal_share: Share = 1.0
    """Share up to which those of normal priority are; the rest is for high."""
    max_body_bytes: int = Field(4 * 2**20, ge=1024)
    """Longest request body."""
    notice_s: float = Field(
        0, ge=0, description="time after SIGTERM in which /health/ready says 503 and all is served"
    )
    drain_s: float = Field(30, ge=0, description="time that streams get to end after that")
    watch_config: bool = Field(False, description="reload whenever the configuration file changes")


class Auth(_Section):
    """Who may ask."""

    mode: Literal["open", "keys"] = "open"
    """open: everybody who reaches the port; keys: who shows a key of ours."""
    keys: Path = Field(Path("thalamus-keys.db"), description="where thalamus keys keeps them")
    inline_flags: bool = Field(
        False, description="mode open: read [Flag: …] in prompts; in mode keys each key says it"
    )


class Admin(_Section):
    """A second port, for operators: keys, backends, the configuration in force, reload, drain."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(ge=0, le=65535)
    """Port to listen on."""
    key: Secret = Field(description="what a caller shows as authorization: Bearer; env: or file:")


class State(_Section):
    """Where several processes share keys and what was used with them."""

    url: StateUrl = Field(
        "memory://", description="memory:// for one process; redis://host:6379/0, rediss:// for TLS"
    )
    username: str | None = Field(None, description="Redis user; the default one without it")
    password: Secret | None = None
    """Redis password; env:NAME or file:PATH."""
    command_ms: float = Field(50, gt=0, description="longest wait for Redis in any request")
    ledger: Path | None = Field(
        None, description="SQLite file that keeps a row of every request, for thalamus usage"
    )
    rates_when_away: Literal["local", "refuse"] = Field(
        "local", description="while Redis is away each process keeps rates by itself, or refuses"
    )
    budgets_when_away: Literal["refuse", "local"] = Field(
        "refuse",
        description="while Redis is away: keys with a budget may spend grace_usd, or local",
    )
    grace_usd: float = Field(
        0.1, ge=0, description="what each key may spend in each process while Redis is away"
    )

    @property
    def is_shared(self) -> bool:
        return self.url != "memory://"


class Router(_Section):
    """What predicts how well each model would do."""

    artifact: str = Field("default", description='folder of an artifact, "default", or "none"')
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of its manifest.json; no other one is taken"
    )
    steady: bool = Field(False, description="read prompts so that a prefix cannot turn the choice")
    fallback: str | None = Field(
        None, description="model for prompts unlike any trained on; the best on average by default"
    )
    calibration: Path | None = Field(
        None, description="what thalamus calibrate wrote; the flag guarantee needs it"
    )


class DecisionLog(_Section):
    """Every decision with its inputs and outcome, one JSON object a line."""

    path: Path
    """The file, appended to."""
    prompts: bool = Field(False, description="write the human's question too, to learn from")
    keep_days: int | None = Field(
        None, ge=1, description="a file a day, removed so long after it ended; by default never"
    )


class Exploration(_Section):
    """A share of choices made to learn from; see policies.types.Exploration."""

    method: Literal["epsilon", "thompson"] = "epsilon"
    """epsilon draws evenly, thompson by each model's chance to be the best."""
    share: Share
    """Share of the choices."""
    within: float | None = Field(None, ge=0, description="most that the objective may be worse")


class Policy(_Section):
    """What decides where a request leaves it open."""

    objective: ProfileName | None = None
    """The profile where a request names none."""
    weights: Mapping[GoalName, Weight] = {}
    """Weight of each goal, laid over those of the profile."""
    min_quality: Share | None = Field(None, description="least predicted quality")
    max_cost_usd: float | None = Field(None, ge=0)
    """Most a request may be predicted to cost."""
    max_ttft_ms: float | None = Field(None, ge=0)
    """Longest predicted time to the first token."""
    max_latency_ms: float | None = Field(None, ge=0)
    """Longest predicted time to the last token."""
    exploration: Exploration | None = None


class Canary(Policy):
    """A second policy that serves a share."""

    share: Share
    """Share of the requests, by session where they have one."""


class Policies(_Section):
    """``live`` serves, ``canary`` serves its share in its stead, ``shadow`` only writes to the log."""

    live: Policy = Policy()
    """What serves."""
    canary: Canary | None = None
    """What serves its share in place of live."""
    shadow: Policy | None = None
    """What decides beside it, for the log alone."""


class Timeouts(_Section):
    """Deadlines in seconds: of a client's request, of one attempt at a backend, of the answer."""

    receive_s: float = Field(30, gt=0, description="for a request to arrive whole")

    connect_s: float = Field(2, gt=0)
    """For a backend to accept a connection."""
    first_token_s: float = Field(30, gt=0, description="until a stream begins")
    answer_s: float = Field(300, gt=0, description="for an answer that is not streamed")
    idle_s: float = Field(20, gt=0, description="longest gap between two pieces of a stream")
    total_s: float = Field(600, gt=0)
    """For a whole answer, streamed or not."""
    send_s: float = Field(60, gt=0, description="longest wait for a client that does not read")


class Hedging(_Section):
    """A second backend of the same model is asked when the first is unusually slow to begin a stream.

    The faster one answers; what the other had read is paid for.
    """

    share: float = Field(0, ge=0, le=0.1, description="most streams asked for twice; 0 for none")
    after: float = Field(
        0.95, ge=0.5, le=0.999, description="quantile of the backend's times to a first token"
    )


class Tracing(_Section):
    """OpenTelemetry traces of requests, sent to a collector; see docs/tracing.md."""

    endpoint: CollectorUrl
    """Base URL of what takes OTLP over HTTP, as in http://tempo:4318; /v1/traces is added."""
    sample_ratio: Share = 1.0
    """Share of requests that are traced, where no caller has decided already."""
    follow_callers: bool = Field(
        True, description="a traceparent header's own choice to be sampled or not is followed"
    )
    headers: Mapping[HeaderName, Secret] = Field(
        {}, description="sent to it; env:NAME or file:PATH each"
    )
    timeout_s: float = Field(10, gt=0, description="for one export, and for the last at the end")
    service_name: Name = "thalamus"
    """The attribute service.name of every span."""


class Price(_Section):
    """USD per million tokens."""

    input: float = Field(ge=0)
    """Of tokens read."""
    output: float = Field(ge=0)
    """Of tokens written."""
    cached_input: float | None = Field(None, ge=0)
    """Of tokens read from the prefix cache; that of input by default."""


class Backend(_Section):
    """One server that answers for a model."""

    url: BackendUrl
    """Base URL, as in http://vllm:8000/v1."""
    api_key: Secret | None = None
    """What it wants as authorization: Bearer; env:NAME or file:PATH."""
    model: str | None = Field(None, description="the model's name at this backend, if it differs")
    extra_body: Mapping[str, Any] = Field({}, description="fields set in every request to it")
    transport: Literal["lean", "httpx2"] = "lean"
    """lean is our own client; httpx2 is a full one, for proxies and unusual TLS."""
    endpoints: frozenset[EndpointName] | None = Field(
        None, min_length=1, description="what it speaks, if not all that the model says"
    )
    signals: bool | None = Field(
        None,
        description="read its load from /metrics; by default where it is reached by plain http",
    )
    signals_every_s: float | None = Field(
        None, ge=1, le=5, description="seconds between readings where many gateways read; 1 without"
    )
    security_level: int | None = Field(
        None, ge=0, description="a model is as secure as the least secure backend that serves it"
    )
    name: Name | None = Field(None, description="what clients see of it; host and port by default")

    @property
    def address(self) -> str:
        """The base URL without a slash at the end."""
        return str(self.url).rstrip("/")

    @property
    def root_address(self) -> str:
        """Where its pages beside ``/v1`` are."""
        return self.address.removesuffix("/v1")

    @property
    def is_watched(self) -> bool:
        return self.url.scheme == "http" if self.signals is None else self.signals

    @property
    def label(self) -> str:
        return self.name or f"{self.url.host}:{self.url.port}"


class Model(_Section):
    """A model that clients can name, what is known of it, and who serves it."""

    backends: tuple[Backend, ...] = Field(min_length=1)
    """Who serves it."""
    price_usd_per_mtok: Price | None = None
    """USD per million tokens; without one, limits on cost exclude the model."""
    gpu_usd_per_hour: float | None = Field(
        None,
        gt=0,
        description="instead of a price list: what one backend's hardware costs while it runs; a "
        "request pays for its time there, shared with those answered beside it",
    )
    balance: Literal["least_loaded", "two_choices", "prefix", "listed"] = Field(
        "least_loaded",
        description="which backend is asked first: the least busy, the less busy of two drawn, where "
        "the prompt's beginning was served before unless that is too busy, or as they are listed",
    )
    resume: bool = Field(
        False,
        description="continue a plain text stream at temperature 0 that breaks off at another backend; "
        "all of them must be vLLM, serving the same weights",
    )
    context_tokens: int | None = Field(None, gt=0)
    """Prompt and answer together; longer prompts are not sent to it."""
    parameters_b: float | None = Field(None, gt=0)
    """Billions of parameters, for the goal size."""
    active_parameters_b: float | None = Field(None, gt=0)
    """Billions of parameters at work for a token, of a mixture of experts."""
    released: datetime.date | None = None
    """Day of its release, YYYY-MM-DD, for the goal recency."""
    security_level: int | None = Field(None, ge=0)
    """How secure it is, by your own scale; higher is better."""
    readability: Share | None = None
    """How readable its answers are, in [0, 1]; measured from its answers as they come."""
    capabilities: frozenset[Literal["tools", "vision", "json_schema", "logprobs"]] | None = None
    """What it can do; without a list, everything."""
    quality_prior: Share | None = None
    """Quality in [0, 1] where the router has never seen it."""
    endpoints: frozenset[EndpointName] = Field(
        frozenset({"chat", "completions"}),
        min_length=1,
        description="what its backends speak; responses and messages reach a chat backend as chat",
    )


class Config(_Section):
    """Everything that can be set."""

    server: Server = Server()
    auth: Auth = Auth()
    admin: Admin | None = None
    state: State = State()
    router: Router = Router()
    timeouts: Timeouts = Timeouts()
    hedging: Hedging = Hedging()
    decision_log: DecisionLog | None = None
    tracing: Tracing | None = None
    policies: Policies = Policies()
    learning: Learning | None = None
    models: Mapping[Name, Model] = Field(min_length=1)
    """Models by the name that clients use."""
