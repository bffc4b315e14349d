import pytest

from gateway.errors import ConfigError
from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import KeyPolicy, id_in, make_key, shown_key
from gateway.tenancy.principals import routing_of


def test_a_key_matches_itself_alone():
    token, key = make_key("ci", KeyPolicy(), 100.0)
    other, _ = make_key("ci", KeyPolicy(), 100.0)
    assert key.matches(token)
    assert not key.matches(other)
    assert not key.matches(token[:-1])
    assert id_in(token) == key.id


@pytest.mark.parametrize("text", ["", "sk-other", "sk-thalamus-zz-x", "sk-thalamus-" + "a" * 12])
def test_what_is_no_key_has_no_id(text):
    assert id_in(text) is None


def test_the_secret_is_kept_nowhere(tmp_path):
    file = KeyFile(tmp_path / "keys.db")
    token, key = make_key("ci", KeyPolicy(), 100.0)
    file.add(key)
    secret = token.removeprefix(f"sk-thalamus-{key.id}-").encode()
    assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())
    assert file.read() == [key]


def test_a_key_ends_when_it_expires_or_is_revoked(tmp_path):
    file = KeyFile(tmp_path / "keys.db")
    _, key = make_key("ci", KeyPolicy(), 100.0, expires_s=200.0)
    file.add(key)
    assert key.end_of(199.0) is None
    assert key.end_of(200.0) == "has expired"
    assert file.revoke(key.id, 150.0)
    assert file.revoke(key.id, 160.0)
    assert not file.revoke("nobody", 150.0)
    (kept,) = file.read()
    assert kept.revoked_s == 150.0
    assert kept.end_of(151.0) == "was revoked"


def test_a_policy_survives_the_file(tmp_path):
    policy = KeyPolicy(
        allow=("a", "b"), routing={"objective": "cheap"}, max_cost_usd=0.5, tokens_per_minute=100
    )
    file = KeyFile(tmp_path / "keys.db")
    file.add(make_key("ci", policy, 100.0)[1])
    assert file.read()[0].policy == policy


def test_spending_adds_up_by_key_and_day(tmp_path):
    file = KeyFile(tmp_path / "keys.db")
    file.add_spent({("k", "2026-11-23"): 5, ("k", "2026-11-24"): 7})
    file.add_spent({("k", "2026-11-24"): 1, ("j", "2026-10-31"): 9})
    assert file.spent("2026-11") == {("k", "2026-11-23"): 5, ("k", "2026-11-24"): 8}


def test_a_file_that_is_none_of_ours_is_refused(tmp_path):
    path = tmp_path / "keys.db"
    path.write_text("not a database, but long enough to be looked at\n" * 100)
    with pytest.raises(ConfigError, match=r"auth.keys: .*keys.db"):
        KeyFile(path).read()


@pytest.mark.parametrize(
    ("header", "shown"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", None), ("Bearer ", None)],
)
def test_a_key_is_shown_as_a_bearer_token(header, shown):
    assert shown_key({"authorization": header}) == shown


def test_a_policy_becomes_defaults_and_clamps_of_routing():
    routing = routing_of(KeyPolicy(routing={"objective": "cheap"}, deny=("x",), min_quality=0.5))
    assert routing is not None
    assert routing.defaults["objective"] == "cheap"
    assert (routing.deny, routing.min_quality) == (("x",), 0.5)
    assert routing_of(KeyPolicy(requests_per_minute=5)) is None


def test_defaults_that_are_no_routing_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"routing.speed"):
        routing_of(KeyPolicy(routing={"speed": 1}))
