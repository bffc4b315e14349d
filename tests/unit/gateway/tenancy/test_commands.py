import json

import pytest

from gateway.cli import main
from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import id_in


def test_a_key_is_made_listed_and_revoked(tmp_path, capsys):
    file = str(tmp_path / "keys.db")
    words = ["keys", "--file", file, "create", "ci", "--allow", "a", "--requests-per-minute", "60"]
    assert main([*words, "--objective", "cheap", "--budget-usd-per-day", "2.5"]) == 0
    token = capsys.readouterr().out.strip()
    key_id = id_in(token)
    assert main(["keys", "--file", file, "list", "--json"]) == 0
    listed = capsys.readouterr().out
    assert token.partition(f"{key_id}-")[2] not in listed
    (entry,) = json.loads(listed)
    assert (entry["id"], entry["name"], entry["state"]) == (key_id, "ci", "active")
    assert entry["policy"] == {
        "allow": ["a"],
        "routing": {"objective": "cheap"},
        "requests_per_minute": 60,
        "budget_usd_per_day": 2.5,
    }
    assert main(["keys", "--file", file, "revoke", str(key_id)]) == 0
    assert KeyFile(tmp_path / "keys.db").read()[0].revoked_s is not None
    assert main(["keys", "--file", file, "list"]) == 0
    assert "revoked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["create", "ci", "--requests-per-minute", "0"], "requests_per_minute"),
        (["create", "ci", "--budget-usd-per-day", "nan"], "budget_usd_per_day"),
        (["create", "ci", "--min-quality", "1.5"], "min_quality"),
        (["create", "ci", "--objective", "fastest"], "routing.objective"),
        (["revoke", "nobody"], "nobody"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path, capsys, words, named):
    assert main(["keys", "--file", str(tmp_path / "keys.db"), *words]) == 1
    assert named in capsys.readouterr().err
