"""From ``thalamus calibrate`` to the flag: the promise of a running gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gateway.cli import main
from gateway.config import parse_config
from gateway.decision.endpoints import CHAT
from gateway.errors import ConfigError, InvalidRequest, RoutingInfeasible
from gateway.parts import Parts, build_parts
from gateway.pipeline import Incoming, Plan
from gateway.tenancy.principals import ANONYMOUS

DATA = Path("router_models/datasets/expert_library.parquet")
BASE = "smollm2-135m"
CODE = "smollm2-135m-code"


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An answer of the library passes at 0.03: a likelihood per token far from hopeless."""
    path = tmp_path_factory.mktemp("calibration") / "outcomes.json"
    words = ["calibrate", "--data", str(DATA), "--out", str(path), "--pass-score", "0.03"]
    assert main(words) == 0
    return path


def parts_with(calibration: Path | None) -> Parts:
    prices = {BASE: 1.0, CODE: 0.5}
    models: dict[str, Any] = {
        name: {
            "backends": [{"url": "http://127.0.0.1:1/v1"}],
            "price_usd_per_mtok": {"input": 1, "output": price},
        }
        for name, price in prices.items()
    }
    router = {} if calibration is None else {"calibration": str(calibration)}
    return build_parts(parse_config({"router": router, "models": models}, "the test"))


def plan(parts: Parts, headers: dict[str, str] | None = None, **fields: object) -> Plan:
    body = {"model": "auto", "messages": [{"role": "user", "content": "def add(a, b):"}], **fields}
    incoming = Incoming(CHAT, "r", headers or {}, json.dumps(body).encode(), 0.0)
    return parts.pipeline.plan(incoming, ANONYMOUS)


def test_a_promise_asks_the_cheapest_that_can_keep_it(calibration: Path) -> None:
    parts = parts_with(calibration)
    decided = plan(parts, routing={"guarantee": {"risk": 0.3, "confidence": 0.8}}).decision
    promise = decided.parsed.flags.guarantee
    assert promise is not None
    assert promise.order == (CODE, BASE)
    assert promise.threshold is not None
    assert decided.chosen.quality >= promise.threshold
    assert decided.plan.reason.startswith("first in order with predicted quality")
    assert decided.effective_routing["guarantee"] == {"risk": 0.3, "confidence": 0.8}


def test_the_header_says_the_same(calibration: Path) -> None:
    parts = parts_with(calibration)
    header = {"x-routing-guarantee": "risk=0.3,confidence=0.8"}
    in_body = plan(parts, routing={"guarantee": {"risk": 0.3, "confidence": 0.8}})
    assert plan(parts, header).decision.parsed == in_body.decision.parsed


def test_a_named_model_is_held_to_it_too(calibration: Path) -> None:
    parts = parts_with(calibration)
    decided = plan(parts, model=BASE, routing={"guarantee": {"risk": 0.3, "confidence": 0.8}})
    promise = decided.decision.parsed.flags.guarantee
    assert promise is not None
    assert promise.order == (BASE,)


def test_a_promise_is_for_the_router_it_was_calibrated_with(calibration: Path) -> None:
    wish = {"guarantee": {"risk": 0.3, "confidence": 0.8}, "router": "ensemble"}
    with pytest.raises(InvalidRequest, match="calibrated for the perceptive router") as caught:
        plan(parts_with(calibration), routing=wish)
    assert caught.value.param == "routing.router"


def test_what_cannot_be_promised_is_infeasible_and_named(calibration: Path) -> None:
    parts = parts_with(calibration)
    with pytest.raises(RoutingInfeasible) as caught:
        plan(parts, routing={"guarantee": {"risk": 0.01, "confidence": 0.99}})
    assert caught.value.constraint == "guarantee"


def test_without_calibration_no_promise_is_given() -> None:
    with pytest.raises(InvalidRequest, match=r"no router\.calibration is configured") as caught:
        plan(parts_with(None), routing={"guarantee": {"risk": 0.1}})
    assert caught.value.param == "routing.guarantee"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"router_version": "other"}, "was made with router other, not with"),
        ({"failed": []}, "rows and models do not match"),
        ({"models": ["m"]}, "rows and models do not match"),
        ({"predicted": "none"}, "Expected `array`"),
    ],
)
def test_a_calibration_of_something_else_is_refused_at_start(
    calibration: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps({**json.loads(calibration.read_text()), **change}))
    with pytest.raises(ConfigError, match=message):
        parts_with(changed)


def test_a_calibration_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"router\.calibration: cannot read"):
        parts_with(tmp_path / "none.json")


def test_data_without_one_of_the_models_cannot_calibrate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(DATA)
    rows = [name != BASE for name in table["model"].to_pylist()]
    pq.write_table(table.filter(rows), tmp_path / "part.parquet")
    out = tmp_path / "out.json"
    words = ["calibrate", "--data", str(tmp_path / "part.parquet"), "--out", str(out)]
    assert main(words) == 1
    assert f"no row of {BASE}" in capsys.readouterr().err
    assert not out.exists()
