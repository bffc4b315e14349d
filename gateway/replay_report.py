"""A replayed log for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from gateway.ledger.replay import Replay
from policies.off_policy import Interval, OffPolicyEstimate

#: Below this many effective samples an interval of normal theory means little.
FEW_SAMPLES = 50


def print_replay(replay: Replay, console: Console | None = None) -> None:
    """Print whether the log replays, and what the other policy is estimated to earn."""
    console = console or Console()
    same = replay.decisions - len(replay.changed)
    console.print(f"{same} of {replay.decisions} decisions come out the same again")
    for decision_id in replay.changed[:5]:
        console.print(f"  differs: {decision_id}", highlight=False)
    if replay.torn_lines:
        lines = ", ".join(str(number) for number in replay.torn_lines[:5])
        console.print(f"skipped {len(replay.torn_lines)} torn line(s): {lines}")
    if replay.lost:
        console.print(f"{replay.lost} records were lost when the log was written")
    if replay.agreement is None:
        return
    console.print(
        f"{replay.pinned} requests named their model, {replay.cascades} were cascades, "
        f"{replay.infeasible} have no feasible model; "
        f"on the others the policies agree in {replay.agreement:.1%}"
    )
    table = Table(title="Mean per request", title_justify="left")
    for heading in (
        "reward",
        "requests",
        "effective",
        "as logged",
        "IPS",
        "SNIPS",
        "doubly robust",
    ):
        table.add_column(heading, justify="left" if heading == "reward" else "right")
    if replay.quality is not None:
        table.add_row("quality (feedback)", *_cells(replay.quality))
    if replay.cost_usd is not None:
        table.add_row("cost, USD", *_cells(replay.cost_usd))
    console.print(table)
    for note in _notes(replay):
        console.print(f"note: {note}")


def _cells(found: OffPolicyEstimate) -> list[str]:
    estimates = (found.logged, found.ips, found.snips, found.dr)
    return [str(found.samples), f"{found.effective_samples:.0f}", *map(_shown, estimates)]


def _shown(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.value:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def _notes(replay: Replay) -> list[str]:
    found = replay.quality or replay.cost_usd
    notes = []
    if replay.quality is None:
        notes.append("no feedback in this log, so nothing is said of quality")
    elif replay.feedback < replay.decisions:
        notes.append(
            f"{replay.feedback} of {replay.decisions} requests have feedback; "
            "if clients score some answers sooner than others, the estimates lean that way"
        )
    if found is not None and found.unsupported > 0:
        notes.append(
            f"{found.unsupported:.1%} of the policy's choices could never have been logged; "
            "there IPS and SNIPS see nothing and the doubly robust estimate trusts the predictions"
        )
    if found is not None and found.effective_samples < FEW_SAMPLES:
        notes.append("too few effective samples for the intervals to be trusted; explore more")
    return notes
