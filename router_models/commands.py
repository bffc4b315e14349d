"""What ``thalamus train``, ``predict`` and ``evaluate`` do. Arguments are parsed elsewhere.

DataError and ArtifactError pass through; no command leaves a half-written file.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from router_models.artifact import (
    check_replaceable,
    installed_version,
    load_suite,
    resolve,
    save,
)
from router_models.evaluation.evaluate import evaluate
from router_models.evaluation.html import render_page
from router_models.evaluation.peers import MIN_PROMPTS
from router_models.evaluation.predictions import pilots_column, predict_table
from router_models.evaluation.report import BEST_SINGLE, ROUTER, EvaluationReport
from router_models.evaluation.robustness import assess_robustness
from router_models.evaluation.tables import (
    calibration_table,
    frontier_table,
    pair_table,
    policy_table,
    robustness_table,
    task_table,
)
from router_models.files import replace_file
from router_models.prices import Prices
from router_models.retriever.model import Rule
from router_models.suite import DEFAULT_KIND, RouterSuite
from router_models.training.calibration_outcomes import calibration_outcomes
from router_models.training.checkpoint import Checkpoint, checkpoint_beside
from router_models.training.dataset import TRAIN, RoutingData, read_prompts, read_routing_data
from router_models.training.encoders import check_encoder
from router_models.training.errors import COVERAGE
from router_models.training.fit_pilots import PilotOptions
from router_models.training.suite import SuiteReport, train_suite
from router_models.training.train import TrainingOptions
from router_models.types import ArtifactError, DataError


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What an evaluation measures beyond its baselines and peers, and how the router reads.

    ``prices`` adds quality against cost; ``robustness`` rewrites and attacks the prompts, which
    takes most of a minute; ``steady`` evaluates the router behind the median of five readings;
    ``kind`` names one of the artifact's routers.
    """

    prices: Prices | None = None
    robustness: bool = False
    steady: bool = False
    kind: str = DEFAULT_KIND


@dataclass(frozen=True, slots=True)
class Reporting:
    """Where the report of a training run goes, None for beside the weights, and prices, if known."""

    path: Path | None = None
    prices: Prices | None = None


#: What may be trained: the perceptive router, with it the retriever, and with both their ensemble.
ROUTERS = ("perceptive", "retriever", "ensemble")


def calibrate_command(
    router_path: str,
    data: Path,
    out: Path,
    *,
    split: str | None,
    pass_score: float,
    kind: str = DEFAULT_KIND,
) -> None:
    """Write what the gateway needs to give guarantees: predictions and which answers fail."""
    router = load_suite(resolve(router_path)).named(kind)
    held_out = read_routing_data(data).evaluation(split)
    text = json.dumps(calibration_outcomes(router, held_out, pass_score), allow_nan=False)
    replace_file(out, f"{text}\n".encode())


def train_command(
    data: Path,
    out: Path,
    *,
    router: str = "ensemble",
    options: TrainingOptions | None = None,
    rule: Rule = "outcomes",
    reporting: Reporting | None = None,
    console: Console | None = None,
) -> RouterSuite:
    """Train on the split ``train`` and save an artifact; evaluate on the other splits, if any.

    What is finished of it lies in a folder beside ``out`` until the artifact stands there: after a kill
    the same command goes on from it. The report lies in the artifact's folder as ``report.html``
    unless ``reporting`` names another place. Returns the routers as they were saved. Raises DataError
    for data that cannot be used, and ArtifactError when ``out`` holds anything but an artifact.
    """
    console = console or Console()
    if router not in ROUTERS:
        raise DataError(f"unknown router {router!r}; there is {', '.join(ROUTERS)}")
    options, reporting = options or TrainingOptions(), reporting or Reporting()
    check_encoder(options.encoder)
    check_replaceable(out)
    table = read_routing_data(data)
    began = time.perf_counter()
    pilots = PilotOptions(seed=options.seed, rule=rule) if router != "perceptive" else None
    _check_measured(table.training())
    checkpoint = _checkpoint(out, table, options)
    suite, fitted = _train_with_progress(table, options, pilots, console, checkpoint)
    trained = suite.named(DEFAULT_KIND)
    seconds = time.perf_counter() - began
    has_held_out = any(split != TRAIN for split in table.splits)
    evaluation = None
    if has_held_out:
        evaluation = evaluate(trained, table, prices=reporting.prices, seed=options.seed)
    training = {
        **fitted.to_json(),
        "data_sha256": table.sha256,
        "seed": options.seed,
        "interval_coverage": COVERAGE,
    }
    page = render_page(evaluation, training)
    saved = save(
        suite,
        out,
        training=training,
        metrics=_headline(evaluation),
        report=page if reporting.path is None else None,
    )
    if reporting.path is not None:
        replace_file(reporting.path, page.encode())
    checkpoint.remove()
    if checkpoint.resumed:
        console.print(f"Resumed after an earlier run: {', '.join(checkpoint.resumed)}.")
    _print_training(fitted, table, evaluation, seconds, console)
    console.print(f"Router {saved.version} is in {out}.")
    return saved


def predict_command(
    router: str | Path,
    data: Path,
    out: Path,
    *,
    kind: str = DEFAULT_KIND,
    nearest: int = 0,
    prices: Prices | None = None,
) -> int:
    """Write the predictions for every prompt of ``data`` as parquet; return the rows written.

    ``kind`` names one of the artifact's routers. With ``nearest`` a column tells how each model did
    on that many pilots nearest to the prompt.
    """
    suite, prompts = load_suite(resolve(router)), read_prompts(data)
    table = predict_table(suite.named(kind), prompts, prices)
    if nearest:
        if suite.retriever is None:
            raise DataError("this artifact has no pilots; train with --router retriever")
        models = table["model"].to_pylist()[: table.num_rows // len(prompts.prompts)]
        table = table.append_column(*pilots_column(suite.retriever, models, prompts, nearest))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    replace_file(out, sink.getvalue().to_pybytes())
    return int(table.num_rows)


def evaluate_command(
    router: str | Path,
    data: Path,
    *,
    as_json: bool = False,
    report: Path | None = None,
    split: str | None = None,
    options: EvaluationOptions | None = None,
    console: Console | None = None,
) -> EvaluationReport:
    """Evaluate an artifact beside its baselines and its peers.

    Prints tables, or JSON on standard output, and writes a page if asked.
    """
    options = options or EvaluationOptions()
    suite = load_suite(resolve(router))
    table = read_routing_data(data)
    loaded = (suite.steadied() if options.steady else suite).named(options.kind)
    evaluation = evaluate(loaded, table, split=split, prices=options.prices, with_peers=True)
    if options.robustness:
        robustness = assess_robustness(loaded, table, split=split)
        evaluation = replace(evaluation, robustness=robustness)
    if report is not None:
        replace_file(report, render_page(evaluation).encode())
    if as_json:
        sys.stdout.write(json.dumps(evaluation.to_json(), indent=1, allow_nan=False) + "\n")
    else:
        _print_tables(evaluation, console or Console())
        (console or Console()).print(_on_peers(evaluation))
    return evaluation


def _check_measured(training: RoutingData) -> None:
    """Raise DataError where the training prompts measure but one model."""
    measured = [m for m, seen in zip(training.models, _labels(training), strict=True) if seen]
    if len(measured) < 2:
        raise DataError(
            f"column 'model': of the split {TRAIN!r} every row is {measured[0]!r}; "
            "routing needs two models or more"
        )


def _labels(data: RoutingData) -> list[int]:
    """Count every model's measured prompts."""
    counts: list[int] = (~np.isnan(data.scores)).sum(axis=0).tolist()
    return counts


def _checkpoint(out: Path, table: RoutingData, options: TrainingOptions) -> Checkpoint:
    """Open the checkpoint of an artifact; everything that its stages depend on names it."""
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{out}: cannot be written: {error.strerror or error}") from error
    question = {
        "data_sha256": table.sha256,
        "options": asdict(options),
        "package_version": installed_version(),
        "numpy": np.__version__,
    }
    return Checkpoint(checkpoint_beside(out), question)


def _train_with_progress(
    table: RoutingData,
    options: TrainingOptions,
    pilots: PilotOptions | None,
    console: Console,
    checkpoint: Checkpoint,
) -> tuple[RouterSuite, SuiteReport]:
    columns = (TextColumn("{task.description:>10}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        step = bar.add_task("reading", total=None)

        def progress(stage: str, done: int, total: int) -> None:
            bar.update(step, description=stage, completed=done, total=total)

        return train_suite(
            table.training(), options, progress, pilots=pilots, checkpoint=checkpoint
        )


def _print_training(
    fitted: SuiteReport,
    table: RoutingData,
    evaluation: EvaluationReport | None,
    seconds: float,
    console: Console,
) -> None:
    perceived = fitted.perceptive
    sizes = Counter(table.splits)
    told = ", ".join(f"{sizes[split]} of {split!r}" for split in sorted(sizes))
    console.print(f"Prompts by split: {told}; {TRAIN!r} trains, the others are evaluated on.")
    unseen = [m for m, n in zip(table.models, _labels(table.training()), strict=True) if not n]
    if unseen:
        console.print(f"Without a training row, so the mean is predicted: {', '.join(unseen)}.")
    if perceived.withheld:
        console.print(f"{perceived.withheld} training prompts withheld: also evaluated on")
    if evaluation is None:
        console.print("The data have no split to evaluate on; the errors are cross-validated.")
    else:
        _print_tables(evaluation, console)
    console.print(
        f"Cross-validated squared error {perceived.squared_error:.4f}, of the models' means alone "
        f"{perceived.squared_error_mean:.4f}. "
        f"Trained on {perceived.prompts} prompts in {seconds:.1f} s."
    )
    if fitted.pilots is not None:
        console.print(
            f"The retriever has {fitted.pilots['count']} pilots; see thalamus pilots list."
        )


def _headline(evaluation: EvaluationReport | None) -> dict[str, object]:
    if evaluation is None:
        return {}
    plain = evaluation.to_json()
    policies = {row["policy"]: row for row in plain["policies"]}
    return {
        "prompts": evaluation.prompts,
        "loss_unit": evaluation.loss_unit,
        ROUTER: policies[ROUTER],
        BEST_SINGLE: policies[BEST_SINGLE],
    }


def _print_tables(evaluation: EvaluationReport, console: Console) -> None:
    tables = (
        policy_table(evaluation),
        task_table(evaluation),
        calibration_table(evaluation),
        pair_table(evaluation),
        frontier_table(evaluation),
        robustness_table(evaluation),
    )
    for table in tables:
        if table is not None:
            console.print(table)
    if evaluation.ignored_models:
        console.print(f"The router does not know {', '.join(evaluation.ignored_models)}: ignored.")


def _on_peers(evaluation: EvaluationReport) -> str:
    if evaluation.peers:
        return f"Peers were fitted on {evaluation.peer_prompts} training prompts of the same file."
    return f"No peers: the file has fewer than {MIN_PROMPTS} prompts of the split 'train'."
