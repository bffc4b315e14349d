"""Writing over in place says what taking apart and putting together says, or declines."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.plain_answer import renamed, restamped

_names = st.sampled_from(["m", "served", 'say "model"', "ü", ""])
_counts = st.dictionaries(st.sampled_from(["prompt_tokens", "total", "cost"]), st.integers(0, 99))
_inner = st.recursive(
    st.none() | st.booleans() | st.integers() | _names | _counts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["model", "usage", "x", '"model"']), inner, max_size=3)
    ),
    max_leaves=8,
)
_separators = st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")])


@given(
    told=_names,
    usage=_counts,
    rest=st.dictionaries(st.sampled_from(["id", "choices", "meta"]), _inner),
    separators=_separators,
    indent=st.sampled_from([None, 2]),
    cost=st.floats(0, 10, allow_nan=False),
    model=_names,
)
def test_only_the_two_values_change(
    told: str,
    usage: dict[str, int],
    rest: dict[str, Any],
    separators: tuple[str, str],
    indent: int | None,
    cost: float,
    model: str,
) -> None:
    answer = {**rest, "model": told, "usage": usage}
    body = json.dumps(answer, separators=separators, indent=indent).encode()
    raw = bytes(msgspec.json.decode(body, type=dict[str, msgspec.Raw])["usage"])
    found = restamped(body, told, model, raw, cost)
    if found is not None:
        assert json.loads(found) == {**answer, "model": model, "usage": {**usage, "cost": cost}}


@pytest.mark.parametrize(
    ("body", "told", "usage"),
    [
        (b'{"model":"a","usage":{"n":1},"x":{"n":1}}', "a", b'{"n":1}'),
        (b'{"model":"a","usage":{"n":1,"cost":2}}', "a", b'{"n":1,"cost":2}'),
        (b'{"model":"a","usage":{ }}', "a", b"{ }"),
        (b'{"model":"a","x":{"model":"a"},"usage":{"n":1}}', "a", b'{"n":1}'),
        (b'{"model" : "a","usage":{"n":1}}', "a", b'{"n":1}'),
        (b'{"usage":{"n":1}}', None, b'{"n":1}'),
    ],
    ids=["usage twice", "cost there", "empty usage", "model twice", "odd spaces", "no model"],
)
def test_it_declines_where_there_is_doubt(body: bytes, told: str | None, usage: bytes) -> None:
    assert restamped(body, told, "b", usage, 0.5) is None


def test_every_other_byte_stays() -> None:
    body = b'{ "id":1e2,\t"model": "a", "usage": {"n": 1 } , "z":"\\u00e9" }'
    told = restamped(body, "a", "b", b'{"n": 1 }', 0.5)
    assert told == b'{ "id":1e2,\t"model": "b", "usage": {"n": 1 ,"cost":0.5} , "z":"\\u00e9" }'
    assert restamped(body, "a", "a", b"", None) == body


def test_names_are_written_as_json() -> None:
    assert renamed(b'{"model":"a"}', "a", 'b"\n') == b'{"model":"b\\"\\n"}'
