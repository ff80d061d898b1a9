"""Metrics of classes, as scikit-learn defines them; a quotient of nothing by nothing is 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def confusion_matrix(expected: np.ndarray, found: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 [C, C]: how often each class (row) was found to be each class (column).

    Args:
        expected: int [examples].
        found: int [examples].
        num_classes: C.
    """
    pairs = np.asarray(expected, np.int64) * num_classes + np.asarray(found, np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def classification_metrics(expected: np.ndarray, found: np.ndarray, num_classes: int) -> dict[str, float]:
    """Metrics of one class an example.

    `macro_f1` is the mean over the classes that occur, expected or found. `micro_f1` is that of all decisions together,
    and so equals `accuracy`. `matthews` is Matthews' correlation for any number of classes (Gorodkin 2004).

    Args:
        expected: int [examples].
        found: int [examples].
        num_classes: C.
    """
    matrix = confusion_matrix(expected, found, num_classes)
    hits, rows, columns = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    occurs = rows + columns > 0
    f1 = _quotient(2 * hits, rows + columns)[occurs]
    accuracy = float(_quotient(hits.sum(), matrix.sum()))
    return {
        "accuracy": accuracy,
        "macro_f1": float(f1.mean()) if len(f1) else 0.0,
        "micro_f1": accuracy,
        "matthews": _matthews(matrix),
    }


def multi_label_metrics(expected: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Metrics of any number of classes an example: `exact_match` counts examples with all classes right.

    Args:
        expected: bool [examples, C].
        found: bool [examples, C].
    """
    expected, found = np.asarray(expected, bool), np.asarray(found, bool)
    hits, totals = (expected & found).sum(0), expected.sum(0) + found.sum(0)
    return {
        "exact_match": float((expected == found).all(1).mean()) if len(expected) else 0.0,
        "macro_f1": float(_quotient(2 * hits, totals).mean()),
        "micro_f1": float(_quotient(2 * hits.sum(), totals.sum())),
    }


def class_report(expected: np.ndarray, found: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of examples of each class.

    Args:
        expected: int [examples], or bool [examples, C] where an example may have any number of classes.
        found: the same.
        labels: names of the classes.
    """
    expected, found = np.asarray(expected), np.asarray(found)
    if expected.ndim == 1:
        classes = np.arange(len(labels))
        expected, found = expected[:, None] == classes, found[:, None] == classes
    expected, found = expected.astype(bool), found.astype(bool)
    return [
        {"label": label, **precision_recall_f1((e & f).sum(), f.sum(), e.sum()), "support": int(e.sum())}
        for label, e, f in zip(labels, expected.T, found.T, strict=True)
    ]


def precision_recall_f1(hits: int, found: int, expected: int) -> dict[str, float]:
    """From the number of right decisions, of all decisions, and of what was to be found."""
    return {
        "precision": float(_quotient(hits, found)),
        "recall": float(_quotient(hits, expected)),
        "f1": float(_quotient(2 * hits, found + expected)),
    }


def _quotient(dividend: Any, divisor: Any) -> Any:
    divisor = np.asarray(divisor)
    return np.where(divisor == 0, 0.0, dividend / np.where(divisor == 0, 1, divisor))


def _matthews(matrix: np.ndarray) -> float:
    rows, columns = matrix.sum(1).astype(np.float64), matrix.sum(0).astype(np.float64)
    total = matrix.sum().astype(np.float64)
    covariance = np.trace(matrix) * total - rows @ columns
    of_rows, of_columns = total**2 - rows @ rows, total**2 - columns @ columns
    return float(covariance / np.sqrt(of_rows * of_columns)) if of_rows * of_columns > 0 else 0.0
