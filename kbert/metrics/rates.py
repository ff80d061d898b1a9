"""Precision, recall and F1 from counts, which every kind of report shares."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

import numpy as np

from kbert.errors import InputError


def ratio(numerator: Any, denominator: Any) -> np.ndarray:
    """`numerator / denominator`, float64 in their shape; 0 where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, "float64"), np.asarray(denominator, "float64")
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def rates(correct: Any, predicted: Any, actual: Any) -> dict[str, np.ndarray]:
    """`precision`, `recall` and `f1` in the shape of the counts, each 0 where it is not defined.

    Args:
        correct: answers that are right.
        predicted: answers given.
        actual: answers that there are.
    """
    return {
        "precision": ratio(correct, predicted),
        "recall": ratio(correct, actual),
        "f1": ratio(2 * np.asarray(correct), np.asarray(predicted) + np.asarray(actual)),
    }


def per_class(names: Sequence[str], correct: Any, predicted: Any, actual: Any) -> dict[str, dict[str, float]]:
    """The row of each class: `precision`, `recall`, `f1`, and `support`, the number of actual ones."""
    columns = rates(correct, predicted, actual)
    return {
        name: {rate: float(values[i]) for rate, values in columns.items()} | {"support": int(actual[i])}
        for i, name in enumerate(names)
    }


def check_rows(kind: str, true: Sized, predicted: Sized) -> None:
    """Refuse what cannot be scored: nothing at all, or one side longer than the other."""
    if len(true) != len(predicted) or not len(true):
        raise InputError(
            f"metrics need as many predicted as true {kind}, and at least one. "
            f"Received: {len(predicted)} predicted, {len(true)} true"
        )
