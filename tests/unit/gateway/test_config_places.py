"""Errors of a configuration point at the line and column, as an editor counts them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import main
from gateway.config import load_config, load_policy
from gateway.errors import ConfigError
from gateway.yaml_places import Place, read_placed

GOOD = """\
server:
  port: 8080
models:
  small:
    backends:
      - url: http://127.0.0.1:1/v1
"""


def errors_of(folder: Path, text: str) -> list[str]:
    path = folder / "t.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value).replace(f"{path}:", "").splitlines()


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("port: 8080", "prot: 8080", "2:3: server.prot: unknown key"),
        ("port: 8080", "port:  eighty", "2:10: server.port: input should be a valid integer"),
        ("url: http", "url: ftp", "6:14: models.small.backends.0.url: "),
        ("backends:", "backend:", "4:3: models.small.backends: field required"),
        ("  small:", "  auto:", "4:3: models.auto: this name is taken by routing"),
        ("  small:", "  smäll:", "4:3: models.smäll.[key]: a name must be printable ASCII"),
        ("models:", "state: {url: tcp://x}\nmodels:", "3:14: state.url: must be memory://"),
        ("  port: 8080", "  port: 80\n  port: 81", "3:3: not YAML: the key port is given twice"),
        ("  port: 8080", "  port: [80", "3:7: not YAML: "),
    ],
)
def test_an_error_points_at_its_line(tmp_path: Path, old: str, new: str, error: str) -> None:
    assert old in GOOD
    assert any(line.startswith(error) for line in errors_of(tmp_path, GOOD.replace(old, new))), (
        errors_of(tmp_path, GOOD.replace(old, new))
    )


def test_every_error_has_a_line_of_its_own(tmp_path: Path) -> None:
    text = GOOD.replace("port: 8080", "port: -1\n  colour: red")
    places = [line.split(": ")[0] for line in errors_of(tmp_path, text)]
    assert places == ["2:9", "3:3"]


def test_what_is_merged_in_is_found_where_it_stands(tmp_path: Path) -> None:
    text = GOOD + "  other:\n    <<: {colour: red}\n    backends: [{url: 'http://x/v1'}]\n"
    assert errors_of(tmp_path, text) == ["8:10: models.other.colour: unknown key"]


def test_a_wrong_word_of_the_command_names_itself_and_no_line(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(GOOD)
    with pytest.raises(ConfigError, match=r"\A--port: input should be less than"):
        load_config(path, port=99999)


def test_a_policy_points_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("objective: best\nmin_quality: 2\n")
    with pytest.raises(ConfigError, match=r"p\.yaml:2:14: min_quality: "):
        load_policy(path)


def test_check_config_says_so_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(GOOD.replace("port", "prot"))
    assert main(["check-config", str(path)]) == 1
    assert capsys.readouterr().err == f"thalamus: {path}:2:3: server.prot: unknown key\n"


def test_anchors_that_contain_themselves_end() -> None:
    assert read_placed("&a [*a]").document


leaves = st.none() | st.booleans() | st.integers() | st.text()
trees = st.recursive(
    leaves, lambda t: st.lists(t) | st.dictionaries(st.text("abc", min_size=1), t), max_leaves=20
)


@given(trees)
def test_documents_are_what_safe_load_makes_of_them(tree: object) -> None:
    text = yaml.safe_dump(tree)
    assert read_placed(text).document == yaml.safe_load(text) == tree


@given(st.lists(st.integers(), min_size=1), st.data())
def test_an_item_stands_where_it_was_written(numbers: list[int], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(numbers) - 1))
    text = "a:\n" + "".join(f"  - {number}\n" for number in numbers)
    assert read_placed(text).place(["a", index]) == Place(index + 2, 5)
