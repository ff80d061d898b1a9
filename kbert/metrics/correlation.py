"""Correlations of two rows of numbers, as scipy defines them; but 0, not NaN, where one of them is constant."""

from __future__ import annotations

from typing import Any

import numpy as np


def pearson(first: Any, second: Any) -> float:
    """Pearson's correlation coefficient of numbers [n] with numbers [n]."""
    first, second = (np.asarray(values, np.float64) for values in (first, second))
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    return float(np.clip(first @ second, -1, 1))


def spearman(first: Any, second: Any) -> float:
    """Spearman's rank correlation: Pearson's of the ranks; equal numbers share the mean of theirs."""
    return pearson(_ranks(first), _ranks(second))


def _ranks(values: Any) -> np.ndarray:
    _, place, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
