import pytest

from router_models.prices import Price, read_prices
from router_models.types import DataError


def test_prices_are_read_from_yaml_and_json(tmp_path):
    for text in ("a: {input: 1, output: 2.5}\n", '{"a": {"input": 1, "output": 2.5}}'):
        (tmp_path / "p").write_text(text)
        assert read_prices(tmp_path / "p") == {"a": Price(1.0, 2.5)}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: {input: 1}", "'a'"),
        ("a: {input: 1, output: -1}", "'a'"),
        ("a: {input: .nan, output: 1}", "'a'"),
        ("a: {input: true, output: 1}", "'a'"),
        ("a: {input: 1, output: 1, extra: 1}", "'a'"),
        ("a: 3", "'a'"),
        ("- 1", "must map"),
        ("", "must map"),
        ("a: [", "cannot be read"),
    ],
)
def test_prices_that_cannot_be_used_are_named(tmp_path, text, named):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(DataError, match=named):
        read_prices(tmp_path / "p.yaml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"p\.yaml"):
        read_prices(tmp_path / "p.yaml")
