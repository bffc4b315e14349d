"""A prompt of a megabyte holds up the event loop hardly longer than its JSON alone would.

How many milliseconds that is on a machine is measured by ``thalamus bench`` (docs/performance.md).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from gateway.config import parse_config
from gateway.decision.endpoints import CHAT
from gateway.parts import Parts, build_parts
from gateway.pipeline import Incoming

MEGABYTE = 1_000_000
#: Beside reading and writing the same body by the standard library's json.
#: Measured: .6 to 1.5, and 2.6 where every character is escaped.
MAX_TIMES_JSON = 5.0
SENTENCE = "The checkout service returned errors — for eleven minutes after a change of the pool. "


def text(size: int, index: int) -> str:
    return f"Case {index}. " + SENTENCE * (size // len(SENTENCE))


def one_message(index: int) -> list[dict[str, object]]:
    return [{"role": "user", "content": text(MEGABYTE, index)}]


def many_messages(index: int) -> list[dict[str, object]]:
    turns = [
        {"role": ("user", "assistant")[turn % 2], "content": text(500, turn)}
        for turn in range(MEGABYTE // 560)
    ]
    return [*turns, {"role": "user", "content": f"Case {index}"}]


def a_long_system_prompt(index: int) -> list[dict[str, object]]:
    return [
        {"role": "system", "content": text(MEGABYTE, 0)},
        {"role": "user", "content": f"Case {index}"},
    ]


def parts_of_text(index: int) -> list[dict[str, object]]:
    told = [{"type": "text", "text": text(MEGABYTE // 10, index)} for _ in range(10)]
    return [{"role": "user", "content": told}]


def no_spaces(index: int) -> list[dict[str, object]]:
    return [{"role": "user", "content": f"{index}" + "a" * MEGABYTE}]


def escaped(index: int) -> list[dict[str, object]]:
    """As Python's json writes Chinese: six bytes a character."""
    return [{"role": "user", "content": f"{index}" + "你好" * (MEGABYTE // 12)}]


@pytest.fixture(scope="module")
def parts() -> Parts:
    backend = {"backends": [{"url": "http://127.0.0.1:9/v1"}], "parameters_b": 1}
    names = ("smollm2-135m", "smollm2-135m-code", "smollm2-135m-math")
    config = {"router": {"artifact": "default"}, "models": dict.fromkeys(names, backend)}
    return build_parts(parse_config(config, "the test"))


@pytest.mark.parametrize(
    "messages",
    [one_message, many_messages, a_long_system_prompt, parts_of_text, no_spaces, escaped],
    ids=lambda function: function.__name__,
)
def test_planning_and_wording_the_question_hold_nobody_up(
    parts: Parts, messages: Callable[[int], list[dict[str, object]]]
) -> None:
    pipeline = parts.pipeline
    somebody = pipeline.door.authenticate({})
    (_, backend), *_ = parts.catalog.backends
    held_s, json_s = [], []
    for index in range(7):
        body = json.dumps({"model": "auto", "messages": messages(index)}).encode()
        assert len(body) > 0.85 * MEGABYTE
        began_s = time.thread_time()
        plan = pipeline.plan(Incoming(CHAT, "r", {}, body, time.perf_counter()), somebody)
        question = plan.request.question_for(backend)
        held_s.append(time.thread_time() - began_s)
        began_s = time.thread_time()
        json.dumps(json.loads(body))
        json_s.append(time.thread_time() - began_s)
        assert len(question.body) > 0.85 * MEGABYTE
        assert plan.decision.chosen is not None
    assert min(held_s) < MAX_TIMES_JSON * min(json_s)
