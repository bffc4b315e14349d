"""What ``thalamus pilots`` does: look at a retriever's pilots, add a model to them, remove one.

A change writes the artifact anew beside the old one and swaps them; the weights stay as they were.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from router_models.artifact import REPORT, load_suite, read_manifest, resolve, save
from router_models.files import replace_file
from router_models.retriever.library import PilotLibrary, summarise
from router_models.retriever.model import RetrieverRouter
from router_models.training.dataset import MeasuredModel, read_measured_model, read_prompts
from router_models.types import ArtifactError, DataError

_EXAMPLE_CHARS = 60


def list_pilots_command(router: str | Path, *, console: Console | None = None) -> None:
    """Print every pilot: its task, its prompts, who does best there, and an example."""
    retriever = _retriever(resolve(router))
    library = retriever.library
    table = Table(
        title=f"{len(library.names)} pilots of {int(library.sizes.sum())} prompts, "
        f"{len(library.models)} models; outcome: {library.target}",
        box=SIMPLE_HEAD,
    )
    table.add_column("pilot", justify="right")
    table.add_column("task")
    table.add_column("prompts", justify="right")
    table.add_column("best model", no_wrap=True)
    table.add_column("its mean ± error", justify="right", no_wrap=True)
    table.add_column("most typical prompt", overflow="ellipsis", no_wrap=True)
    for pilot, winner in enumerate(library.winners()):
        prompts = library.prompts[pilot]
        example = " ".join(prompts[0].text.split())[:_EXAMPLE_CHARS] if prompts else ""
        table.add_row(
            str(pilot),
            library.names[pilot],
            str(int(library.sizes[pilot])),
            library.models[winner],
            f"{library.means[pilot, winner]:.3f} ± {library.errors[pilot, winner]:.3f}",
            example,
        )
    (console or Console()).print(table)


def export_prompts_command(router: str | Path, out: Path) -> int:
    """Write the stored pilot prompts, on which a new model is to be measured; return their number."""
    library = _retriever(resolve(router)).library
    rows = [prompt for prompts in library.prompts for prompt in prompts]
    table = pa.table(
        {
            "prompt_id": pa.array([row.prompt_id for row in rows], pa.string()),
            "prompt": pa.array([row.text for row in rows], pa.string()),
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    replace_file(out, sink.getvalue().to_pybytes())
    return len(rows)


def add_model_command(
    router: str | Path, model: str, data: Path, *, console: Console | None = None
) -> str:
    """Add a model from its outcomes on stored pilot prompts; return the artifact's new version.

    Rows of other prompts are counted and passed over. Raises DataError when the model is known
    already or none of its rows is of a pilot prompt.
    """
    folder = resolve(router)
    retriever = _retriever(folder)
    library = retriever.library
    measured = read_measured_model(data, model, losses=library.target == "loss")
    grown, used = _with_measured(library, measured)
    changed = replace(
        retriever,
        library=grown,
        # Nothing was cross-validated for it: the interval is that of the widest of the others.
        error_low=np.append(retriever.error_low, retriever.error_low.min()),
        error_high=np.append(retriever.error_high, retriever.error_high.max()),
    )
    stored = sum(len(prompts) for prompts in library.prompts)
    (console or Console()).print(
        f"{model}: measured on {used} of {stored} stored pilot prompts, "
        f"{len(measured.by_prompt) - used} other rows passed over."
    )
    return _save(folder, changed, {"added": model, "prompts": used})


def choose_model_command(
    router: str | Path, data: Path, *, kind: str = "retriever", console: Console | None = None
) -> str:
    """Choose one model for all of a sample of prompts, and return it.

    That is the choice that an index needs: vectors of different embedding models cannot be compared,
    so its documents and its queries must all go to one.
    """
    router_, prompts = load_suite(resolve(router)).named(kind), read_prompts(data).prompts
    quality = np.array([router_.score(prompt).quality for prompt in prompts])
    mean, error = quality.mean(axis=0), quality.std(axis=0) / np.sqrt(len(prompts))
    table = Table(title=f"Expected over {len(prompts)} prompts", box=SIMPLE_HEAD)
    table.add_column("model", no_wrap=True)
    table.add_column("mean predicted quality", justify="right")
    table.add_column("best for", justify="right")
    wins = np.bincount(quality.argmax(axis=1), minlength=len(mean)) / len(prompts)
    for m in np.argsort(-mean, kind="stable"):
        table.add_row(router_.models[m], f"{mean[m]:.4f} ± {error[m]:.4f}", f"{wins[m]:.0%}")
    chosen = router_.models[int(mean.argmax())]
    (console or Console()).print(table)
    (console or Console()).print(f"One model for all of them: {chosen}")
    return chosen


def remove_model_command(router: str | Path, model: str) -> str:
    """Remove a model from the pilots; return the artifact's new version."""
    folder = resolve(router)
    retriever = _retriever(folder)
    library = retriever.library.without_model(model)
    gone = retriever.models.index(model)
    changed = replace(
        retriever,
        library=library,
        error_low=np.delete(retriever.error_low, gone),
        error_high=np.delete(retriever.error_high, gone),
    )
    return _save(folder, changed, {"removed": model})


def _with_measured(library: PilotLibrary, measured: MeasuredModel) -> tuple[PilotLibrary, int]:
    groups, outcomes, lengths = [], [], []
    for pilot, prompts in enumerate(library.prompts):
        for prompt in prompts:
            found = measured.by_prompt.get(prompt.prompt_id)
            if found is not None:
                groups.append(pilot)
                outcomes.append(found[0] - prompt.offset)
                lengths.append(np.log(max(found[1], 1.0)) if found[1] == found[1] else np.nan)
    if not groups:
        raise DataError(
            f"column 'prompt_id': no row of {measured.model!r} is of a stored pilot prompt; "
            "measure it on those that thalamus pilots prompts writes"
        )
    column = summarise(
        np.array(groups, np.int64), len(library.names), np.array(outcomes), np.array(lengths)
    )
    if np.isnan(lengths).all():
        usual = np.where(column.measured > 0, library.log_token_priors.mean(), 0.0)
        column = replace(column, log_tokens=usual)
    return library.with_model(measured.model, column), len(groups)


def _retriever(folder: Path) -> RetrieverRouter:
    retriever = load_suite(folder).retriever
    if retriever is None:
        raise ArtifactError(f"{folder}: has no pilots; train with --router retriever")
    return retriever


def _save(folder: Path, retriever: RetrieverRouter, change: dict[str, object]) -> str:
    """Write the artifact with another retriever; its provenance tells every change."""
    suite, manifest = load_suite(folder), read_manifest(folder)
    training = dict(manifest["training"])
    training["pilot_changes"] = [*training.get("pilot_changes", []), change]
    page = folder / REPORT
    saved = save(
        replace(suite, retriever=retriever),
        folder,
        training=training,
        metrics=manifest["metrics"],
        report=page.read_text(encoding="utf-8") if page.exists() else None,
    )
    return saved.version
