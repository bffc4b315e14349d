"""The dashboards: what an operator asks, and the query that answers it."""

from __future__ import annotations

from deploy.grafana.panels import (
    MODEL,
    Query,
    bars,
    board,
    lines,
    number,
    quantile,
    quantiles,
    rate,
)
from deploy.grafana.routing import routing

BACKEND = 'backend=~"$backend"'
OK = 'outcome="ok"'
#: What the client itself caused, by leaving or by asking what cannot be, is no failure of ours.
FAILED = rate("requests_total", match='outcome="error"')
TRIED = rate("requests_total", match='outcome=~"ok|error"')
SUCCESS = f"1 - {FAILED} / ({TRIED} > 0)"
CACHED = rate("tokens_total", match='kind="cached"')
PROMPT = rate("tokens_total", match='kind=~"input|cached"')
SPEND_HOUR = f"3600 * {rate('cost_usd_total')}"


SAVED_OF_BEST = (
    '(sum(increase(thalamus_cost_saved_usd_total{baseline="always_best"}[$__range]))'
    ' - sum(increase(thalamus_cost_added_usd_total{baseline="always_best"}[$__range])))'
)
SPENT = "sum(increase(thalamus_cost_usd_total[$__range]))"


RED_ABOVE_ZERO = {0.0: "green", 1.0: "red"}


def overview() -> object:
    return board("overview", "Overview", "Is it well, how fast is it, and what does it save?", {
        "Is it well, and what does it save?": [
            number("Alerts", "short",
                   'count(ALERTS{alertstate="firing", alertname=~"Thalamus.+"}) or vector(0)',
                   "Firing now; each has a page in deploy/runbooks", colours=RED_ABOVE_ZERO),
            number("Success", "percentunit", SUCCESS,
                   "Of what we accepted; refusals and clients that left are no part of it",
                   colours={0.0: "red", 0.99: "orange", 0.999: "green"}),
            number("Backends up", "percentunit", "avg(thalamus_backend_up)",
                   colours={0.0: "red", 0.5: "orange", 1.0: "green"}),
            number("First token, p95", "s", quantile(0.95, "ttft_seconds"),
                   colours={0.0: "green", 2.0: "orange", 5.0: "red"}),
            number("Saved, of always-best", "currencyUSD", SAVED_OF_BEST,
                   "Predicted, over the range shown; below zero, the router paid more",
                   colours={-1e9: "orange", 0.0: "green"}),
            number("Saved, share", "percentunit", f"{SAVED_OF_BEST} / ({SPENT} + {SAVED_OF_BEST})",
                   "What was saved, of what always-best would have cost",
                   colours={-1e9: "orange", 0.0: "green"}),
        ],
        "Now": [
            number("Requests", "reqps", rate("requests_total"), span=8),
            number("In flight", "short", "sum(thalamus_inflight)", span=8),
            number("Spend an hour", "currencyUSD", SPEND_HOUR, "At the rate of this moment", span=8),
        ],
        "Traffic": [
            lines("Requests by model", "reqps",
                  Query(rate("requests_total", "model", match=MODEL), "{{model}}")),
            lines("Requests by outcome", "reqps",
                  Query(rate("requests_total", "outcome"), "{{outcome}}"),
                  text="rejected: refused before a decision; cancelled: the client left"),
            lines("Tokens", "short", Query(rate("tokens_total", "kind", match=MODEL), "{{kind}}")),
            lines("Overhead of the gateway", "s", *quantiles("overhead_seconds")),
        ],
        "Speed at the client": [
            lines("Time to first token", "s", *quantiles("ttft_seconds", MODEL), span=8),
            lines("Time per token", "s", *quantiles("inter_token_seconds", MODEL), span=8),
            lines("Whole request", "s", *quantiles("e2e_seconds", MODEL), span=8),
        ],
    })  # fmt: skip


def _counted(kind: str) -> str:
    """How fast a server's own counter grows; each gateway, and each of its models, tells the same."""
    return (
        "max by (backend) "
        f'(rate(thalamus_backend_totals{{{BACKEND}, kind="{kind}"}}[$__rate_interval]))'
    )


def _told_by_servers() -> dict[str, list[object]]:
    """What vLLM says of its load, and our kernels of their work."""
    return {
        "What servers say (vLLM)": [
            lines("Requests running", "short",
                  Query(f'max by (backend) (thalamus_backend_load{{{BACKEND}, signal="running"}})',
                        "{{backend}}")),
            lines("Requests waiting for room", "short",
                  Query(f"max by (backend) (thalamus_queue_depth{{{BACKEND}}})", "{{backend}}")),
            lines("KV cache in use", "percentunit",
                  Query(f'max by (backend) (thalamus_backend_load{{{BACKEND}, signal="kv_usage"}})',
                        "{{backend}}")),
            lines("Prompt tokens found in the prefix cache", "percentunit",
                  Query(f"{_counted('prefix_hit_tokens')} "
                        f"/ ({_counted('prefix_queried_tokens')} > 0)", "{{backend}}"),
                  text="Low where conversations do not stay with their replica"),
            lines("Requests put back for want of room", "reqps",
                  Query(_counted("preemptions"), "{{backend}}"),
                  text="Preemptions: what they had computed is computed again"),
            lines("Time in the server's queue, mean", "s",
                  Query(f"{_counted('queue_seconds')} / ({_counted('queued_requests')} > 0)",
                        "{{backend}}"),
                  text="Of requests that left it; part of the time to the first token"),
            lines("Tokens in our ledger, of those the server processed", "percentunit",
                  Query("min by (backend) "
                        f"(thalamus_usage_drift_ratio{{{BACKEND}}})", "{{backend}}"),
                  text="1 is agreement; below, others use the server too"),
            lines("What it leaves out", "short",
                  Query("max by (backend, signal) "
                        f"(thalamus_backend_signal_missing{{{BACKEND}}})",
                        "{{signal}} at {{backend}}")),
            lines("Age of the last word", "s",
                  Query(f"max by (backend) (thalamus_backend_signal_age_seconds{{{BACKEND}}})",
                        "{{backend}}"),
                  text="After ten seconds it counts for nothing"),
        ],
        "Our experts": [
            lines("Distinct experts a call reads", "short",
                  Query(f'max by (backend) '
                        f'(thalamus_backend_experts{{{BACKEND}, kind="distinct_per_call"}})',
                        "{{backend}}")),
            lines("Slots not computed, and the busiest expert's share", "percentunit",
                  Query(f'max by (backend) (thalamus_backend_experts{{{BACKEND}, '
                        f'kind="slots_not_computed"}}) / on (backend) max by (backend) '
                        f'(thalamus_backend_experts{{{BACKEND}, kind="slots"}})',
                        "not computed at {{backend}}"),
                  Query(f'max by (backend) '
                        f'(thalamus_backend_experts{{{BACKEND}, kind="busiest_share"}})',
                        "busiest at {{backend}}"),
                  text="Dropped by dynamic top-p, or another rank's"),
        ],
    }  # fmt: skip


def backends() -> object:
    return board("backends", "Backends", "Which backends answer, how fast, and how loaded?", {
        "Health": [
            lines("Answers probes", "short",
                  Query(f"min by (model, backend) (thalamus_backend_up{{{BACKEND}}})",
                        "{{model}} at {{backend}}")),
            lines("Left alone after failures", "short",
                  Query(f"max by (model, backend) (thalamus_breaker_state{{{BACKEND}}})",
                        "{{model}} at {{backend}}")),
        ],
        "Load": [
            lines("Requests being answered", "short",
                  Query(f"sum by (backend) (thalamus_backend_inflight{{{BACKEND}}})",
                        "{{backend}}")),
            lines("Attempts", "reqps",
                  Query(rate("upstream_attempts_total", "backend", match=BACKEND), "{{backend}}")),
        ],
        **_told_by_servers(),
        "Speed": [
            lines("Time to first token, p95", "s",
                  Query(quantile(0.95, "ttft_seconds", "model", match=MODEL), "{{model}}")),
            lines("Time per token, p95", "s",
                  Query(quantile(0.95, "inter_token_seconds", "model", match=MODEL), "{{model}}")),
        ],
    })  # fmt: skip


def cost() -> object:
    return board("cost", "Cost and keys", "What is spent, on what, and against what?", {
        "Spend": [
            lines("USD an hour by model", "currencyUSD",
                  Query(f"3600 * {rate('cost_usd_total', 'model', match=MODEL)}", "{{model}}")),
            bars("USD in the range shown", "currencyUSD",
                 Query(f"sum by (model) (increase(thalamus_cost_usd_total{{{MODEL}}}[$__range]))",
                       "{{model}}")),
            lines("USD a request", "currencyUSD",
                  Query(f"{rate('cost_usd_total')} / {rate('requests_total', match=OK)}", "mean")),
            lines("Share of prompt tokens from a cache", "percentunit",
                  Query(f"{CACHED} / ({PROMPT} > 0)", "cached")),
        ],
        "Saved": [
            lines(
                "USD an hour saved, of each baseline", "currencyUSD",
                Query(f"3600 * ({rate('cost_saved_usd_total', 'baseline')}"
                      f" - {rate('cost_added_usd_total', 'baseline')})", "{{baseline}}"),
                text="Predicted. Below zero: the router paid more, for better answers",
            ),
            lines(
                "Predicted quality above each baseline", "percentunit",
                Query(f"({rate('quality_gained_total', 'baseline')}"
                      f" - {rate('quality_given_up_total', 'baseline')})"
                      f" / scalar({rate('compared_requests_total')})", "{{baseline}}"),
            ),
        ],
        "Callers": [
            lines("Refused before a decision", "reqps",
                  Query(rate("requests_total", match='outcome="rejected"'), "rejected"),
                  text="Bad keys, spent budgets, limits, and requests that cannot be read"),
            lines("Least that any key has left of its budget", "currencyUSD",
                  Query("min by (period) (thalamus_budget_remaining_usd)", "{{period}}"),
                  text="thalamus usage --by key tells whose"),
        ],
    })  # fmt: skip


def reliability() -> object:
    return board("reliability", "Reliability", "What failed, and did the client notice?", {
        "Answers": [
            lines("Success", "percentunit", Query(SUCCESS, "success")),
            lines("Streams that broke off", "reqps",
                  Query(rate("stream_aborts_total", "side"), "by the {{side}}"),
                  Query(rate("stream_resumes_total", "result"), "elsewhere: {{result}}")),
        ],
        "Behind the answers": [
            lines("Attempts by outcome", "reqps",
                  Query(rate("upstream_attempts_total", "outcome", match=BACKEND), "{{outcome}}")),
            lines("Answered by another model than chosen", "reqps",
                  Query(rate("fallbacks_total", "model"), "by {{model}}")),
            lines("Attempts a request", "short",
                  Query(f"{rate('upstream_attempts_total')} / {rate('predicted_quality_count')}",
                        "attempts")),
            lines("Lost records", "reqps",
                  Query(rate("decision_log_lost_total"), "decision log"),
                  Query(rate("log_lines_lost_total"), "log"),
                  Query(rate("ledger_rows_lost_total"), "ledger"),
                  Query(rate("store_lost_total"), "settlements to Redis"),
                  Query(rate("traces_total", match='result="lost"'), "traces"),
                  text="The disk or the reader of the log did not keep up; no request waited"),
        ],
    })  # fmt: skip


def process() -> object:
    return board("process", "Process", "How are the gateway's own processes?", {
        "Workers": [
            lines("Workers", "short", Query("sum by (instance) (thalamus_workers)", "{{instance}}")),
            lines("Processor", "percentunit",
                  Query(rate("cpu_seconds_total", "instance"), "{{instance}}"),
                  text="1 is one core in full use"),
            lines("Memory", "bytes",
                  Query("sum by (instance) (thalamus_resident_bytes)", "{{instance}}")),
            lines("Open files and sockets", "short",
                  Query("sum by (instance) (thalamus_open_files)", "{{instance}}")),
            lines("Lateness of the event loop", "s", *quantiles("loop_lag_seconds"),
                  text="Work that holds the loop holds every stream"),
            lines("In flight", "short",
                  Query("sum by (instance) (thalamus_inflight)", "{{instance}}")),
            lines("Configuration read again", "reqps",
                  Query(rate("config_reloads_total", "result"), "{{result}}")),
            lines("Traces", "reqps", Query(rate("traces_total", "result"), "{{result}}")),
        ],
        "Redis, where processes share keys": [
            lines("Every worker reaches it", "short",
                  Query("min by (instance) (thalamus_store_up)", "{{instance}}"),
                  text="0 also where state.url is memory://"),
            lines("Commands", "reqps", Query(rate("store_calls_total", "result"), "{{result}}"),
                  Query("sum (thalamus_store_waiting)", "settlements that wait")),
        ],
    })  # fmt: skip


BOARDS = (overview, routing, backends, cost, reliability, process)
