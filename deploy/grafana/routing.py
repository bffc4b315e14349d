"""The board of what the router decides: where prompts go, why, and whether it is worth it."""

from __future__ import annotations

from deploy.grafana.panels import (
    MODEL,
    Query,
    bars,
    board,
    lines,
    quantile,
    quantiles,
    rate,
    rows,
    scatter,
)


def net(up: str, down: str) -> str:
    """What each baseline would have cost more, or been better by, in the range shown."""
    return (
        f"sum by (baseline) (increase(thalamus_{up}[$__range]))"
        f" - sum by (baseline) (increase(thalamus_{down}[$__range]))"
    )


def total(metric: str, *by: str, match: str = "") -> str:
    """How much a counter grew in the range shown."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (increase(thalamus_{metric}{{{match}}}[$__range]))"


def named(expr: str, label: str, name: str) -> str:
    """The same series, each called by ``name`` in the label ``who``; $1 is the value of ``label``."""
    return f'sum by (who) (label_replace({expr}, "who", "{name}", "{label}", "(.*)"))'


COMPARED = "scalar(sum(increase(thalamus_compared_requests_total[$__range])))"
SAVED = net("cost_saved_usd_total", "cost_added_usd_total")
BETTER = net("quality_given_up_total", "quality_gained_total")
#: Half of the 95 % interval of a mean of n: 1.96 · sqrt((Σd²/n − mean²)/n).
INTERVAL = (
    "1.96 * sqrt(clamp_min(sum by (baseline) "
    f"(increase(thalamus_cost_saved_usd_squares_total[$__range])) / {COMPARED}"
    f" - (({SAVED}) / {COMPARED}) ^ 2, 0) / {COMPARED})"
)


def absolute(ours: str, difference: str, alone: str) -> str:
    """The mean of a request for the router, for each baseline, and for each model alone."""
    router = f"sum(increase(thalamus_{ours}[$__range])) / {COMPARED}"
    baseline = f"({difference}) / {COMPARED} + scalar({router})"
    model = f"{total(alone, 'model')} / ({total('alternative_requests_total', 'model')} > 0)"
    every = (
        named(router, "", "the router"),
        named(baseline, "baseline", "$1"),
        named(model, "model", "always $1"),
    )
    return " or ".join(every)


def _choices() -> dict[str, list[object]]:
    """Where prompts go, and why."""
    share = f"{rate('decisions_total', 'model')} / scalar({rate('decisions_total')})"
    mean_quality = (
        f"{rate('predicted_quality_sum', 'model', match=MODEL)}"
        f" / {rate('predicted_quality_count', 'model', match=MODEL)}"
    )
    return {
        "Choices": [
            lines("Share of each model", "percentunit", Query(share, "{{model}}")),
            lines("What decided", "reqps", Query(rate("decisions_total", "reason"), "{{reason}}")),
            lines("Profiles asked for", "reqps",
                  Query(rate("requests_total", "profile"), "{{profile}}")),
            lines("Predicted quality of the model that served", "percentunit",
                  Query(mean_quality, "{{model}}")),
        ],
        "Cascades": [
            lines("Cheaper models asked first", "reqps",
                  Query(rate("cascade_first_tries_total", "model", "result"),
                        "{{model}}: {{result}}"), span=24,
                  text="Accepted: the answer was kept. Escalated: the chosen model was asked"),
        ],
    }  # fmt: skip


def _comparison() -> dict[str, list[object]]:
    """Is it worth it?"""
    where = (
        Query(absolute("compared_cost_usd_total", SAVED, "alternative_cost_usd_total"),
              "USD a request, predicted"),
        Query(absolute("compared_quality_total", BETTER, "alternative_quality_total"),
              "quality, predicted"),
    )  # fmt: skip
    realised = (
        Query(f"{total('cost_usd_total', 'model')} / {total('predicted_quality_count', 'model')}",
              "USD a request, as paid"),
        Query(f"{total('predicted_quality_sum', 'model')}"
              f" / {total('predicted_quality_count', 'model')}", "quality, predicted"),
    )  # fmt: skip
    cost_more = Query(f"({SAVED}) / {COMPARED}", "dearer by, USD a request")
    better = Query(f"({BETTER}) / {COMPARED}", "better by, predicted quality")
    return {
        "Against doing without": [
            scatter(
                "The router, its baselines, and each model alone", "who", *where,
                "Up and to the left of the router is who would have been cheaper and better. "
                "always_best is the oracle of these predictions",
            ),
            scatter(
                "What each model really served", "model", *realised,
                "Mean price paid and mean predicted quality of its own requests",
            ),
            rows(
                "The same as a table, with half of the 95 % interval of cost", "baseline",
                cost_more, Query(INTERVAL, "±"), better,
                text="From predictions for the same prompt; among the models that were feasible",
            ),
        ],
    }  # fmt: skip


def _judgement() -> dict[str, list[object]]:
    """Does it predict well, and will it go on doing so?"""
    tenths = (
        Query(f"{total('scored_predicted_total', 'tenth')}"
              f" / ({total('scored_answers_total', 'tenth')} > 0)", "predicted"),
        Query(f"{total('scored_score_total', 'tenth')}"
              f" / ({total('scored_answers_total', 'tenth')} > 0)", "scored"),
    )  # fmt: skip
    unlike = rate("decisions_total", match='reason="fallback"')
    return {
        "Is it right?": [
            scatter(
                "Predicted quality against scores, in tenths", "tenth", *tenths,
                "On the diagonal the predictions mean what they say; needs /v1/feedback",
            ),
            lines("Mean prediction from mean score, by model", "percentunit",
                  Query(f"max by (model) (thalamus_calibration_error{{{MODEL}}})", "{{model}}"),
                  text="Without its sign; over all answers scored since the start"),
            lines("Answers scored", "reqps",
                  Query(rate("feedback_total", "model", match=MODEL), "{{model}}")),
            lines("What the shadow policy would have chosen", "reqps",
                  Query(rate("shadow_choices_total", "result"), "{{result}}")),
        ],
        "Do prompts drift?": [
            lines("Prompts unlike any trained on, share", "percentunit",
                  Query(f"{unlike} / ({rate('decisions_total')} > 0)", "fell back"),
                  text="The router's fallback answered: router.fallback, or the best on average"),
            lines("Nearness of prompts to those trained on", "percentunit",
                  *quantiles("prompt_nearness"),
                  text="Falls where the traffic moves away from the training data"),
        ],
    }  # fmt: skip


def _learning() -> dict[str, list[object]]:
    """Does thalamus learn run, on what, and what came of it?"""
    return {
        "Does it learn from its traffic?": [
            lines("Since the last step", "s",
                  Query("time() - max by (result) "
                        "(thalamus_learning_last_step_timestamp_seconds > 0)", "{{result}}"),
                  Query("max(thalamus_learning_step_every_seconds)", "told to take one every"),
                  text="Of thalamus learn, a process of its own; a step that trains takes longer"),
            lines("Scores to learn from", "short",
                  Query("max by (model, source) (thalamus_learning_labels)",
                        "{{model}}, {{source}}"),
                  Query("max by (source) (thalamus_learning_prompts)", "prompts, {{source}}"),
                  text="log: by /v1/feedback; measured: the files of learning.data, as thalamus "
                       "collect writes them"),
            lines("Better than the router in force, held out", "percentunit",
                  Query("max by (bound) (thalamus_learning_gain)", "{{bound}}"),
                  text="Of the version judged last, with its interval; it is published when all of "
                       "it lies above zero, twice"),
            lines("Versions: published, refused, in shadow", "short",
                  Query("max by (stage) (thalamus_learning_versions)", "{{stage}}"),
                  Query("(time() - max(thalamus_learning_promoted_timestamp_seconds)) / 86400",
                        "days that the one in force has served")),
        ],
    }  # fmt: skip


def _limits() -> dict[str, list[object]]:
    """What it could not honour, and how long it took."""
    return {
        "Limits": [
            lines("No model could honour", "reqps",
                  Query(rate("infeasible_total", "constraint"), "{{constraint}}")),
            lines("Predicted to hold, and did not", "reqps",
                  Query(rate("constraint_violations_total", "constraint"), "{{constraint}}")),
        ],
        "Time of a decision": [
            lines("Steps, p99", "s",
                  Query(quantile(0.99, "decision_seconds", "stage"), "{{stage}}")),
            lines("Decisions without the router, which failed", "reqps",
                  Query(rate("scorer_failures_total"), "failures")),
            bars("Policy in force", "short",
                 Query("sum by (version) (thalamus_policy_info)", "{{version}}"),
                 "More than one while a change rolls out", span=24),
        ],
    }  # fmt: skip


def routing() -> object:
    sections = _choices() | _comparison() | _judgement() | _learning() | _limits()
    return board("routing", "Routing", "Where do prompts go, why, and is it worth it?", sections)
