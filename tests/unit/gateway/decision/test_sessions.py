import pytest

from gateway.decision import sessions
from gateway.decision.features import featurise
from gateway.decision.sessions import Sessions

TOOLS = {"tools": b'[{"type": "function"}]'}
ASK = {"role": "user", "content": "Book a table"}
CALL = {"role": "assistant", "content": None, "tool_calls": []}
RESULT = {"role": "tool", "content": "done"}


class SetClock:
    now_s = 0.0

    def monotonic_s(self):
        return self.now_s

    def wall_s(self):
        return self.now_s


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def kept(clock):
    return Sessions(clock)


def features(*messages, fields=TOOLS):
    return featurise(list(messages), 400, fields, None)


def test_a_loop_of_tool_calls_stays_with_its_model(kept):
    kept.note("me", None, features(ASK), "a")
    pin = kept.find("me", None, features(ASK, CALL, RESULT))
    assert pin is not None
    assert (pin.model, pin.prompt_tokens) == ("a", 101)
    later = features(ASK, CALL, RESULT, CALL, {"role": "tool", "content": "again"})
    assert kept.find("me", None, later) is not None


def test_anthropics_tool_results_are_turns_of_a_loop_too(kept):
    kept.note("me", None, features(ASK), "a")
    result = {"role": "user", "content": [{"type": "tool_result", "content": "done"}]}
    assert kept.find("me", None, features(ASK, CALL, result)) is not None


@pytest.mark.parametrize(
    ("principal", "messages"),
    [
        ("you", (ASK, CALL, RESULT)),
        ("me", ({"role": "user", "content": "Another thing"}, CALL, RESULT)),
        ("me", ({"role": "system", "content": "Be brief"}, ASK, CALL, RESULT)),
        ("me", (ASK,)),
        ("me", (ASK, CALL, RESULT, {"role": "user", "content": "Thanks"})),
    ],
    ids=["whose", "ask", "beginning", "no result", "a new ask"],
)
def test_what_is_no_turn_of_the_loop_begins_anew(kept, principal, messages):
    kept.note("me", None, features(ASK), "a")
    assert kept.find(principal, None, features(*messages)) is None


def test_without_tools_nothing_is_remembered(kept):
    kept.note("me", None, features(ASK, fields={}), "a")
    assert len(kept) == 0


def test_a_session_is_remembered_by_whose_it_is(kept):
    plain = features(ASK, fields={})
    kept.note("me", "s", plain, "a")
    assert kept.find("me", "s", plain).model == "a"
    assert kept.find("you", "s", plain) is None
    assert kept.find("me", "t", plain) is None
    assert kept.find("me", None, plain) is None


def test_a_conversation_that_ended_long_ago_is_forgotten(kept, clock):
    plain = features(ASK, fields={})
    kept.note("me", "s", plain, "a")
    clock.now_s = sessions.REMEMBERED_S + 1
    assert kept.find("me", "s", plain) is None


def test_only_so_many_are_remembered(kept, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_REMEMBERED", 2)
    plain = features(ASK, fields={})
    for session_id in ("a", "b", "a", "c"):
        kept.note("me", session_id, plain, "m")
    assert [kept.find("me", s, plain) is not None for s in "abc"] == [True, False, True]
