"""Trained routers on disk: a folder of ``manifest.json`` and arrays, never a pickle.

``weights.npz`` is the perceptive router; ``pilots.npz`` and ``pilots.json`` are the retriever, where
there is one; ``calibration.npz`` holds the maps of each. The manifest names the SHA-256 of every
file, so that routers are either loaded as they were saved or not at all. A sentence encoder keeps
``encoder.onnx`` and ``tokenizer.json``. Saving the same routers
twice gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models import calibration
from router_models.calibration import calibrations_of
from router_models.encoders.storage import (
    ENCODER_FILES,
    encoder_of,
    file_names,
    files_of,
)
from router_models.encoders.storage import (
    settings_of as encoder_settings,
)
from router_models.ensemble import Stacking
from router_models.perceptive.model import Head, PerceptiveRouter
from router_models.retriever.model import RetrieverRouter
from router_models.retriever.storage import arrays_of, prompts_of, retriever_of, settings_of
from router_models.steady import ONCE
from router_models.suite import RouterSuite
from router_models.types import ArtifactError

FORMAT = 1
KIND = "perceptive"
DEFAULT = Path(__file__).parent / "artifacts" / "default"
MANIFEST = "manifest.json"
WEIGHTS = "weights.npz"
PILOTS, PILOT_PROMPTS = "pilots.npz", "pilots.json"
CALIBRATION = "calibration.npz"
REPORT = "report.html"

_MAX_MANIFEST_BYTES = 4_000_000
_MAX_WEIGHTS_BYTES = 512_000_000
_MAX_PROMPTS_BYTES = 256_000_000
_MOST_READINGS = 9

Arrays = Mapping[str, NDArray[Any]]


def resolve(artifact: str | Path) -> Path:
    """Return the folder of an artifact; ``"default"`` is the one that ships with the package."""
    return DEFAULT if str(artifact) == "default" else Path(artifact)


def save(
    routers: PerceptiveRouter | RouterSuite,
    folder: Path,
    *,
    training: Mapping[str, object],
    metrics: Mapping[str, object],
    report: str | None = None,
) -> RouterSuite:
    """Write routers and return them as they will be loaded, with the artifact's version.

    ``training`` says what it was learnt from and ``metrics`` how good it is; both must be JSON.
    ``report`` is a page to lay beside the weights. The folder appears whole or not at all; an
    artifact that stands there is replaced. Raises ArtifactError when something else stands there,
    or when it cannot be written.
    """
    suite = routers if isinstance(routers, RouterSuite) else RouterSuite(routers)
    folder = folder.absolute()
    check_replaceable(folder)
    suffix = secrets.token_hex(4)
    partial = folder.with_name(f"{folder.name}.{suffix}.partial")
    try:
        partial.mkdir(parents=True)
        _write_files(suite, partial)
        manifest = _manifest(suite, training, metrics, _digests(partial))
        text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
        (partial / MANIFEST).write_text(text + "\n", encoding="utf-8")
        if report is not None:
            (partial / REPORT).write_text(report, encoding="utf-8")
        saved = load_suite(partial)
        if folder.exists():
            retired = folder.with_name(f"{folder.name}.{suffix}.old.partial")
            folder.rename(retired)
            partial.rename(folder)
            shutil.rmtree(retired)
        else:
            partial.rename(folder)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return saved


def load(folder: Path) -> PerceptiveRouter:
    """Read a router. Raises ArtifactError naming the file and why it cannot be trusted."""
    manifest, version = _read_manifest(folder / MANIFEST)
    arrays = _read_arrays(folder / WEIGHTS, manifest)
    try:
        files = _read_files(folder, manifest)
        router = _assemble(manifest, arrays, files)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{folder / MANIFEST}: {type(error).__name__}: {error}") from error
    return replace(router, version=version)


def load_suite(folder: Path) -> RouterSuite:
    """Read every router of an artifact. Raises ArtifactError as ``load`` does."""
    perceptive = load(folder)
    manifest = _read_manifest(folder / MANIFEST)[0]
    try:
        retriever = _read_retriever(folder, manifest, perceptive)
        stacked = manifest.get("ensemble")
        stacking = None
        if stacked is not None:
            shares = float(stacked["level"]), float(stacked["difference"])
            stacking = Stacking(perceptive.target, *shares)
        models = manifest.get("calibration", {})
        arrays = _read_arrays(folder / CALIBRATION, manifest) if models else {}
        calibrations = calibrations_of(models, arrays)
        skipped = _skipped(manifest.get("skipped", list(ONCE)))
        return RouterSuite(perceptive, retriever, stacking, calibrations, skipped)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{folder}: {type(error).__name__}: {error}") from error


def _read_retriever(
    folder: Path, manifest: Mapping[str, Any], perceptive: PerceptiveRouter
) -> RetrieverRouter | None:
    settings = manifest.get("retriever")
    if settings is None:
        return None
    arrays = _read_arrays(folder / PILOTS, manifest)
    content = _read_bytes(folder / PILOT_PROMPTS, _MAX_PROMPTS_BYTES)
    _check_digest(folder / PILOT_PROMPTS, manifest)
    retriever = retriever_of(perceptive.encoder, settings, json.loads(content), arrays)
    return replace(retriever, version=f"{perceptive.version}-retriever")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return an artifact's manifest. Raises ArtifactError as ``load`` does."""
    return _read_manifest(folder / MANIFEST)[0]


def installed_version() -> str:
    """Return the version of this package, or ``unknown`` when it runs without being installed."""
    try:
        return package_version("thalamus")
    except PackageNotFoundError:
        return "unknown"


def check_replaceable(folder: Path) -> None:
    """Raise ArtifactError when anything but an artifact, or nothing, stands at ``folder``."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: is a file; name a folder for the artifact")
    names = {entry.name for entry in folder.iterdir()}
    own = {MANIFEST, WEIGHTS, PILOTS, PILOT_PROMPTS, CALIBRATION, REPORT, *ENCODER_FILES}
    foreign = sorted(names - own)
    if foreign or (names and MANIFEST not in names):
        raise ArtifactError(
            f"{folder}: holds {(foreign or sorted(names))[0]!r}, so it is not only a router "
            "artifact; name another folder"
        )


def _arrays(router: PerceptiveRouter) -> dict[str, NDArray[Any]]:
    return {
        **router.encoder.arrays(),
        "table": router.table.astype(np.float16),
        "task_bias": router.task_bias,
        "outcome_mean": router.outcome.mean,
        "outcome_offsets": router.outcome.offsets,
        "error_low": router.error_low,
        "error_high": router.error_high,
        "log_tokens_mean": router.log_tokens.mean,
        "log_tokens_offsets": router.log_tokens.offsets,
    }


def _manifest(
    suite: RouterSuite,
    training: Mapping[str, object],
    metrics: Mapping[str, object],
    files: Mapping[str, str],
) -> dict[str, object]:
    router = suite.perceptive
    manifest = {
        "format": FORMAT,
        "kind": KIND,
        "models": list(router.models),
        "tasks": list(router.tasks),
        "target": router.target,
        "encoder": encoder_settings(router.encoder),
        "skipped": list(suite.skipped),
        "calibration": {kind: list(c.models) for kind, c in suite.calibrations.items()},
        "files": dict(files),
        "training": {"package_version": installed_version(), **training},
        "metrics": dict(metrics),
    }
    if suite.retriever is not None:
        manifest["retriever"] = settings_of(suite.retriever)
    if suite.stacking is not None:
        shares = suite.stacking
        manifest["ensemble"] = {"level": shares.level, "difference": shares.difference}
    return manifest


def _read_manifest(path: Path) -> tuple[dict[str, Any], str]:
    if not path.parent.is_dir():
        raise ArtifactError(f"{path.parent}: is no folder; a router artifact is one")
    if not path.exists():
        raise ArtifactError(f"{path}: is missing, so {path.parent.name} is no router artifact")
    content = _read_bytes(path, _MAX_MANIFEST_BYTES)
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: is not JSON: {error}") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise ArtifactError(f"{path}: names no format version, so it is no router artifact")
    if manifest["format"] != FORMAT:
        raise ArtifactError(
            f"{path}: has format {manifest['format']!r}, this version reads {FORMAT}; train again"
        )
    if manifest.get("kind") != KIND:
        raise ArtifactError(f"{path}: has kind {manifest.get('kind')!r}, expected {KIND!r}")
    return manifest, hashlib.sha256(content).hexdigest()[:12]


def _read_arrays(path: Path, manifest: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    content_size = len(_read_bytes(path, _MAX_WEIGHTS_BYTES))
    _check_digest(path, manifest)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _MAX_WEIGHTS_BYTES:
            raise ArtifactError(f"{path}: {content_size} bytes unpack to {unpacked}; refused")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{path}: cannot be read: {error}") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fu":
            raise ArtifactError(f"{path}: array {name!r} has dtype {array.dtype}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ArtifactError(f"{path}: array {name!r} holds a value that is not finite")
    return arrays


def _read_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Read the files that the encoder keeps beside the arrays."""
    files = {}
    for name in file_names(manifest["encoder"]):
        files[name] = _read_bytes(folder / name, _MAX_WEIGHTS_BYTES)
        _check_digest(folder / name, manifest)
    return files


def _assemble(
    manifest: Mapping[str, Any], arrays: Arrays, files: Mapping[str, bytes]
) -> PerceptiveRouter:
    models, tasks = _names(manifest, "models"), _names(manifest, "tasks")
    if not models:
        raise ValueError("there are no models")
    target = manifest["target"]
    if target not in {"loss", "score"}:
        raise ValueError(f"unknown target {target!r}")
    encoder = encoder_of(manifest["encoder"], arrays, files)
    known = len(models)
    widths = {len(tasks) + known, len(tasks) + 2 * known}
    table = arrays["table"]
    if table.ndim != 2 or table.shape[0] != encoder.rows or table.shape[1] not in widths:
        raise ValueError(f"array 'table' has shape {table.shape}")

    def vector(name: str, *shape: int) -> NDArray[np.float64]:
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float64:
            raise ValueError(f"array {name!r} is {array.dtype}{array.shape}, not float64{shape}")
        return array

    return PerceptiveRouter(
        version="",
        models=models,
        tasks=tasks,
        target=target,
        encoder=encoder,
        table=table.astype(np.float32),
        task_bias=vector("task_bias", len(tasks)),
        outcome=Head(vector("outcome_mean", known), vector("outcome_offsets", len(tasks), known)),
        error_low=vector("error_low", known),
        error_high=vector("error_high", known),
        log_tokens=Head(
            vector("log_tokens_mean", known), vector("log_tokens_offsets", len(tasks), known)
        ),
    )


def _skipped(shares: list[float]) -> tuple[float, ...]:
    found = tuple(float(share) for share in shares)
    if found[:1] != ONCE or len(found) > _MOST_READINGS or not all(0 <= s < 1 for s in found):
        raise ValueError(f"'skipped' must be shares of a text, the first of them 0, not {shares}")
    return found


def _names(manifest: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = manifest[key]
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or len(set(names)) != len(names):
        raise ValueError(f"{key!r} must be a list of different names")
    return tuple(names)


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise ArtifactError(f"{path}: is larger than {limit} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}") from error


def _write_files(suite: RouterSuite, folder: Path) -> None:
    for name, content in files_of(suite.perceptive.encoder).items():
        (folder / name).write_bytes(content)
    arrays = {WEIGHTS: _arrays(suite.perceptive)}
    if suite.calibrations:
        arrays[CALIBRATION] = calibration.arrays_of(suite.calibrations)
    if suite.retriever is not None:
        arrays[PILOTS] = arrays_of(suite.retriever)
        text = json.dumps(prompts_of(suite.retriever), indent=0, ensure_ascii=False)
        (folder / PILOT_PROMPTS).write_text(text + "\n", encoding="utf-8")
    for name, own in arrays.items():
        np.savez_compressed(folder / name, allow_pickle=False, **own)


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: _sha256(path) for path in sorted(folder.iterdir())}


def _check_digest(path: Path, manifest: Mapping[str, Any]) -> None:
    files = manifest.get("files")
    expected = files.get(path.name) if isinstance(files, dict) else None
    if _sha256(path) != expected:
        raise ArtifactError(f"{path}: its SHA-256 is not the one in {MANIFEST}; copy it again")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
