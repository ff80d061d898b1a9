"""Correlation of predicted with true numbers, for regression (STS-B reports both)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kbert.errors import InputError
from kbert.metrics.rates import check_rows


def correlation_metrics(
    values_true: Sequence[float] | np.ndarray, values_pred: Sequence[float] | np.ndarray
) -> dict[str, float]:
    """Both correlations, as `scipy.stats` computes them.

    Args:
        values_true: the right number of each example.
        values_pred: the predicted ones.

    Returns:
        `pearson`, linear correlation; `spearman`, that of the ranks. 0.0 where one side is constant (scipy gives NaN
        and warns); NaN where a number is NaN.

    Raises:
        InputError: the sequences are empty or of different lengths.
    """
    check_rows("values", values_true, values_pred)
    true, predicted = np.asarray(values_true, "float64"), np.asarray(values_pred, "float64")
    if true.ndim != 1 or predicted.ndim != 1:
        raise InputError(f"values must be one number per example. Received shapes {true.shape}, {predicted.shape}")
    return {"pearson": _pearson(true, predicted), "spearman": _spearman(true, predicted)}


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    if (x == x[0]).all() or (y == y[0]).all():
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    # Scaled, so that no square overflows or vanishes.
    x, y = x / abs(x).max(), y / abs(y).max()
    return float(np.clip((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)), -1.0, 1.0))


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float("nan") if np.isnan(x).any() or np.isnan(y).any() else _pearson(_ranks(x), _ranks(y))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]
