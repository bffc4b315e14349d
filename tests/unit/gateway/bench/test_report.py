"""The table of a run of ``thalamus bench``."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.bench.peers import DIRECT, OURS, Peer
from gateway.bench.report import BASE, BEGIN, END, table, write_into
from gateway.bench.run import Scaling
from gateway.errors import ConfigError

BY_SPEED = Scaling(1.9, is_by_speed=True)
PEERS = [Peer(DIRECT, "", ()), Peer(OURS, "1", ("us",)), Peer(BASE, "2", ("them",))]
ROUNDS = {
    DIRECT: [{"rate_p50_us": 100.0}, {"rate_p50_us": 200.0}, {"rate_p50_us": 300.0}],
    OURS: [
        {"pinned_us": 30.0, "auto_us": 60.0, "rate_p50_us": 1100.0, "bad": 0.0},
        {"pinned_us": 80.0, "auto_us": 90.0, "rate_p50_us": 1700.0, "bad": 0.0},
        {"pinned_us": 90.0, "auto_us": 240.0, "rate_p50_us": 1300.0, "bad": 2.0},
    ],
    BASE: [{"pinned_us": 30.0}, {"pinned_us": 40.0}, {"pinned_us": 60.0}],
}


def row(text: str, begins: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {begins}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_figures_are_medians_and_ratios_are_taken_within_a_round() -> None:
    text = table(PEERS, ROUNDS, BY_SPEED)
    pinned = row(text, "pinned")
    # 1.0, 2.0 and 1.5 in the rounds; the medians' own ratio would be 2.0.
    assert pinned[1:] == ["80 (30–90)", "40 (30–60)", "1.50 ×", "1.0 ×"]
    assert row(text, "`auto`, 32")[3] == "2.25 ×"
    assert row(text, "`auto`, 32")[2] == "–"


def test_latency_is_what_the_gateway_adds() -> None:
    assert row(table(PEERS, ROUNDS, BY_SPEED), "100 requests")[1] == "1 (1–1.50)"


def test_failures_and_what_was_not_measured_are_told() -> None:
    text = table(PEERS, ROUNDS, BY_SPEED)
    assert row(text, "all else")[1] == "0 (0–2)"
    workers = row(text, "`--workers 2`")
    assert workers[:2] == ["`--workers 2`: requests a second over one worker's", "1.90 ×"]
    few_cores = row(table(PEERS, ROUNDS, Scaling(1.7, is_by_speed=False)), "`--workers 2`")
    assert few_cores[:2] == [
        "`--workers 2`: requests a CPU second, twice, over those of two gateways on the same core",
        "1.70 ×",
    ]


def test_without_the_base_there_is_no_ratio() -> None:
    text = table(PEERS[:2], ROUNDS, BY_SPEED)
    assert row(text, "pinned") == [row(text, "pinned")[0], "80 (30–90)", "1.0 ×"]
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_the_page_keeps_all_but_the_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_a_page_without_marks_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("words")
    with pytest.raises(ConfigError, match=r"page\.md has no lines"):
        write_into(page, "new")
    assert page.read_text() == "words"
