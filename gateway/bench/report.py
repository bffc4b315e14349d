"""The table of a run: medians over rounds, and ratios within them."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from gateway.bench.peers import DIRECT, OURS, Peer
from gateway.bench.run import Figures, Scaling
from gateway.errors import ConfigError

#: By gateway, one for each round.
Rounds = Mapping[str, Sequence[Figures]]
BASE = "vllm-router"
BEGIN, END = "<!-- thalamus bench: begin -->", "<!-- thalamus bench: end -->"


@dataclass(frozen=True)
class Row:
    """``base_figure`` is what a peer's figure is called that ours is compared with; of a figure
    that ``is_over_direct`` the same without a gateway is taken off.
    """

    figure: str
    words: str
    goal: str = ""
    base_figure: str | None = None
    is_over_direct: bool = False
    scale: float = 1.0


ROWS = (
    Row("pinned_us", "pinned model, not streamed, 64 at once: µs a request", "1.0 ×", "pinned_us"),
    Row("auto_us", "`auto`, 32 asks in turn: µs a request", "2.5 ×", "pinned_us"),
    Row("auto_new_us", "`auto`, no ask twice: µs a request", "", "pinned_us"),
    Row("paced_us", "stream, a chunk every 5 ms, 16 at once: µs a chunk", "1.5 ×", "paced_us"),
    Row("burst_us", "stream, no pause, 16 at once: µs a chunk", "1.5 ×", "burst_us"),
    Row("crowd_us", "1,000 streams, a chunk every 200 ms: µs a chunk", "", "crowd_us"),
    Row("rate_p50_us", "100 requests a second, added: ms, p50", "1", None, True, 1e-3),
    Row("rate_p99_us", "… p99", "5", None, True, 1e-3),
    Row(
        "long_hold_us",
        "a chunk beside prompts of 1 MB: held longer, ms, p99",
        "10",
        None,
        True,
        1e-3,
    ),
    Row("crowd_gap_p99_us", "1,000 streams, added to a gap: ms, p99", "20", None, True, 1e-3),
    Row("crowd_bad", "1,000 streams: that failed", "0"),
    Row("bad", "all else: that failed", "0"),
    Row("start_mib", "memory at start: MiB", "150"),
    Row("after_mib", "memory after 20,000 requests: MiB", "150"),
    Row("stream_kib", "memory of an open stream: KiB", "64"),
)


def table(peers: Sequence[Peer], rounds: Rounds, workers: Scaling) -> str:
    """The Markdown table, what it was measured on above it."""
    gateways = [peer for peer in peers if peer.name != DIRECT]
    titles = ["", *(f"{peer.name} {peer.version}" for peer in gateways)]
    has_base = any(peer.name == BASE for peer in gateways)
    titles += [f"against {BASE}", "goal"] if has_base else ["goal"]
    lines = [_line(titles), _line(["---", *["---:"] * (len(titles) - 1)])]
    for row in ROWS:
        cells = [row.words, *(_cell(row, peer.name, rounds) for peer in gateways)]
        if has_base:
            cells.append(_ratio(row, rounds))
        lines.append(_line([*cells, row.goal]))
    measured = "requests a second over one worker's"
    if not workers.is_by_speed:
        measured = "requests a CPU second, twice, over those of two gateways on the same core"
    blank = [""] * (len(titles) - 3)
    words = f"`--workers 2`: {measured}"
    lines.append(_line([words, f"{workers.ratio:.2f} ×", *blank, "1.8 ×"]))
    count = len(rounds[OURS])
    return (
        f"{_machine()}; {count} rounds, medians, the least and the most in brackets.\n\n"
        + "\n".join(lines)
    )


def write_into(page: Path, text: str) -> None:
    """Replace what stands between the marks. Raises ConfigError where they are missing."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _values(row: Row, name: str, rounds: Rounds) -> list[float]:
    return [
        (figures[row.figure] - direct.get(row.figure, 0.0) * row.is_over_direct) * row.scale
        for figures, direct in zip(rounds[name], rounds[DIRECT], strict=True)
        if row.figure in figures
    ]


def _cell(row: Row, name: str, rounds: Rounds) -> str:
    values = _values(row, name, rounds)
    if not values:
        return "–"
    spread = f" ({_short(min(values))}–{_short(max(values))})" if len(values) > 1 else ""
    return _short(median(values)) + (spread if max(values) else "")


def _ratio(row: Row, rounds: Rounds) -> str:
    if row.base_figure is None:
        return ""
    ratios = [
        ours[row.figure] / base[row.base_figure]
        for ours, base in zip(rounds[OURS], rounds[BASE], strict=True)
        if row.figure in ours and base.get(row.base_figure)
    ]
    return f"{median(ratios):.2f} ×" if ratios else "–"


def _short(value: float) -> str:
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _machine() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = found[1].strip() if found else platform.machine()
    return f"{processor}, {os.cpu_count()} cores, Linux {platform.release()}"
