"""A retriever as arrays and JSON, for the artifact; what is read back is checked first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.encoders import Encoder
from router_models.retriever.library import PilotLibrary, PilotPrompt
from router_models.retriever.model import RetrieverRouter

Arrays = Mapping[str, NDArray[Any]]

_PER_OUTCOME = ("measured", "means", "errors", "log_tokens")


def arrays_of(router: RetrieverRouter) -> dict[str, NDArray[Any]]:
    """Return what ``retriever_of`` needs besides the settings and the prompts."""
    library = router.library
    return {
        "axes": router.axes.astype(np.float16),
        "centroids": library.centroids.astype(np.float16),
        "sizes": library.sizes,
        **{name: getattr(library, name) for name in _PER_OUTCOME},
        "priors": library.priors,
        "log_token_priors": library.log_token_priors,
        "error_low": router.error_low,
        "error_high": router.error_high,
    }


def settings_of(router: RetrieverRouter) -> dict[str, object]:
    """Return what the manifest keeps."""
    return {
        "models": list(router.models),
        "target": router.library.target,
        "rule": router.rule,
        "bandwidth": router.bandwidth,
        "shrinkage": router.shrinkage,
        "reach": router.reach,
    }


def prompts_of(router: RetrieverRouter) -> list[dict[str, object]]:
    """Return the pilots' names and prompts, in the order of the arrays."""
    library = router.library
    return [
        {"name": name, "prompts": [list(prompt) for prompt in prompts]}
        for name, prompts in zip(library.names, library.prompts, strict=True)
    ]


def retriever_of(
    encoder: Encoder, settings: Mapping[str, Any], pilots: object, arrays: Arrays
) -> RetrieverRouter:
    """Put a retriever together. Raises KeyError, TypeError or ValueError where parts disagree."""
    models = tuple(str(model) for model in settings["models"])
    if not models or len(set(models)) != len(models):
        raise ValueError("'models' must be a list of different names")
    if settings["target"] not in {"loss", "score"} or settings["rule"] not in {
        "outcomes",
        "literal",
    }:
        raise ValueError(f"unknown target {settings['target']!r} or rule {settings['rule']!r}")
    bandwidth, shrinkage = float(settings["bandwidth"]), float(settings["shrinkage"])
    if not (0 < bandwidth < np.inf and 0 < shrinkage < np.inf):
        raise ValueError("'bandwidth' and 'shrinkage' must be positive")
    reach = float(settings["reach"])
    if not 0 <= reach <= 1:
        raise ValueError("'reach' must lie in [0, 1]")
    names, prompts = _read_prompts(pilots)
    axes, centroids = arrays["axes"], arrays["centroids"]
    for name, array, height in (
        ("axes", axes, encoder.word_rows),
        ("centroids", centroids, len(names)),
    ):
        if array.ndim != 2 or array.shape != (height, axes.shape[1]):
            raise ValueError(f"array {name!r} has shape {array.shape}")

    def checked(name: str, *shape: int) -> NDArray[np.float64]:
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float64:
            raise ValueError(f"array {name!r} is {array.dtype}{array.shape}, not float64{shape}")
        return array

    count, known = len(names), len(models)
    library = PilotLibrary(
        models=models,
        target=settings["target"],
        names=names,
        prompts=prompts,
        centroids=np.ascontiguousarray(centroids, np.float32),
        sizes=checked("sizes", count),
        **{name: checked(name, count, known) for name in _PER_OUTCOME},
        priors=checked("priors", known),
        log_token_priors=checked("log_token_priors", known),
    )
    return RetrieverRouter(
        version="",
        encoder=encoder,
        axes=np.ascontiguousarray(axes, np.float32),
        library=library,
        rule=settings["rule"],
        bandwidth=bandwidth,
        shrinkage=shrinkage,
        error_low=checked("error_low", known),
        error_high=checked("error_high", known),
        reach=reach,
    )


def _read_prompts(
    pilots: object,
) -> tuple[tuple[str, ...], tuple[tuple[PilotPrompt, ...], ...]]:
    if not isinstance(pilots, list) or not pilots:
        raise ValueError("there are no pilots")
    names, prompts = [], []
    for pilot in pilots:
        if not isinstance(pilot["name"], str):
            raise ValueError("a pilot's name is no text")
        own = tuple(PilotPrompt(str(i), str(t), float(o)) for i, t, o in pilot["prompts"])
        if not np.isfinite([prompt.offset for prompt in own]).all():
            raise ValueError("a pilot's prompt has an offset that is not finite")
        names.append(pilot["name"])
        prompts.append(own)
    return tuple(names), tuple(prompts)
