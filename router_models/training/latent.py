"""A dense space for prompts: the strongest directions of their sparse vectors, and clusters in it."""

from __future__ import annotations

import numpy as np

from router_models.training.sparse import Floats, Indices, SparseRows

_PASSES = 2
_LLOYD_STEPS = 25


def principal_axes(rows: SparseRows, dimensions: int, seed: int) -> Floats:
    """Return orthonormal axes, (columns, dimensions or fewer), the strongest first.

    Truncated SVD by a randomised range finder (Halko et al., arXiv 0909.4061), two passes.
    """
    by_column = rows.transposed()
    rank = min(dimensions, *rows.shape)
    sample = np.random.default_rng(seed).normal(size=(rows.shape[1], rank)).astype(np.float32)
    basis = np.linalg.qr(rows.times(sample))[0]
    for _ in range(_PASSES):
        basis = np.linalg.qr(rows.times(by_column.times(basis)))[0]
    axes = np.linalg.svd(by_column.times(basis), full_matrices=False)[0]
    return np.ascontiguousarray(axes, np.float32)


def unit_rows(x: Floats) -> Floats:
    """Scale every row, (rows, features), to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.maximum(lengths, 1e-9), np.float32)


def spherical_k_means(x: Floats, k: int, seed: int) -> tuple[Floats, Indices]:
    """Cluster unit vectors: unit centres, (k, features), and the cluster of every row."""
    draw = np.random.default_rng(seed)
    centres = x[draw.choice(len(x), k, replace=False)]
    members = np.full(len(x), -1, np.int64)
    for _ in range(_LLOYD_STEPS):
        nearest = (x @ centres.T).argmax(axis=1)
        if np.array_equal(nearest, members):
            break
        members = nearest
        sums = np.zeros_like(centres)
        np.add.at(sums, members, x)
        empty = ~np.isin(np.arange(k), members)
        sums[empty] = x[draw.choice(len(x), int(empty.sum()), replace=False)]
        centres = unit_rows(sums)
    return centres, members
