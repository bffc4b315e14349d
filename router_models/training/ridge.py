"""Ridge regression on sparse rows for many penalties at once.

Solves ``(X Xᵀ + λ I) α = y`` per target column, with the rows of missing labels taken out, by the
Lanczos process (Golub & Van Loan, *Matrix Computations*, §10.1): one Krylov space serves every λ.
The weights are then ``Xᵀ α``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from router_models.training.sparse import Floats, SparseRows

Matrix = NDArray[np.float64]

_STEPS = 40
_BREAKDOWN = 1e-6


def ridge_path(x: SparseRows, targets: Matrix, penalties: Sequence[float]) -> list[Floats]:
    """Fit every target column at every penalty.

    ``targets`` has shape (rows, k), NaN where a label is missing; all penalties are > 0. Returns
    one array of weights of shape (columns, k) per penalty. The same input gives the same bits.
    """
    observed = ~np.isnan(targets)
    y = np.where(observed, targets, 0.0)
    by_column = x.transposed()

    def gram(vectors: Matrix) -> Matrix:
        inner = by_column.times(vectors.astype(np.float32))
        return np.where(observed, x.times(inner), 0.0)

    basis, diagonal, off_diagonal, norms = _lanczos(gram, y)
    duals = np.zeros((len(penalties), *y.shape))
    for column in range(y.shape[1]):
        tridiagonal = np.diag(diagonal[:, column])
        steps = np.arange(len(diagonal) - 1)
        tridiagonal[steps, steps + 1] = tridiagonal[steps + 1, steps] = off_diagonal[:-1, column]
        values, vectors = np.linalg.eigh(tridiagonal)
        for i, penalty in enumerate(penalties):
            # Rounding can push an eigenvalue of a semi-definite matrix just below zero.
            inverse = 1.0 / (np.maximum(values, 0.0) + penalty)
            small = vectors @ (inverse * vectors[0]) * norms[column]
            duals[i, :, column] = basis[:, :, column].T @ small
    return [by_column.times(dual.astype(np.float32)) for dual in duals]


def _lanczos(
    gram: Callable[[Matrix], Matrix], y: Matrix
) -> tuple[Matrix, Matrix, Matrix, NDArray[np.float64]]:
    """Run the process on every column at once, each vector orthogonalised against all before it.

    Returns the basis (steps, rows, k), the diagonal and off-diagonal of each column's tridiagonal
    matrix (steps, k), and the norms of y (k,). A column that has converged goes on with zeros.
    """
    steps = min(_STEPS, y.shape[0])
    norms = np.linalg.norm(y, axis=0)
    basis = np.zeros((steps, *y.shape))
    diagonal = np.zeros((steps, y.shape[1]))
    off_diagonal = np.zeros((steps, y.shape[1]))
    vector = _normalised(y, norms, np.ones_like(norms))
    for step in range(steps):
        basis[step] = vector
        product = gram(vector)
        diagonal[step] = (vector * product).sum(axis=0)
        for _ in range(2):
            overlaps = np.einsum("srk,rk->sk", basis[: step + 1], product)
            product = product - np.einsum("srk,sk->rk", basis[: step + 1], overlaps)
        length = np.linalg.norm(product, axis=0)
        vector = _normalised(product, length, np.maximum(np.abs(diagonal).max(axis=0), 1e-12))
        off_diagonal[step] = np.where(vector.any(axis=0), length, 0.0)
    return basis, diagonal, off_diagonal, norms


def _normalised(
    columns: Matrix, lengths: NDArray[np.float64], scales: NDArray[np.float64]
) -> Matrix:
    alive = lengths > _BREAKDOWN * scales
    return np.where(alive, columns / np.where(alive, lengths, 1.0), 0.0)
