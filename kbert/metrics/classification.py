"""Metrics of labels: one of several (multi-class), or any number of them (multi-label).

All of them are those of scikit-learn with `zero_division=0`: a rate that is not defined counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from kbert.errors import InputError
from kbert.metrics.rates import check_rows, per_class, rates

# === One label each ===


def classification_metrics(
    labels_true: Sequence[Hashable], labels_pred: Sequence[Hashable], names: Sequence[Hashable]
) -> dict[str, float]:
    """Metrics of one label per example.

    Args:
        labels_true: the right label of each example, one of `names`.
        labels_pred: the predicted ones.
        names: all classes, each once.

    Returns:
        `accuracy`; `macro_f1`, the mean F1 of the classes that occur in either sequence; `micro_f1`, which equals the
        accuracy; `matthews_correlation`, over all classes (Gorodkin 2004), 0 where one of the sequences is constant.

    Raises:
        InputError: the sequences are empty or of different lengths, or a label is none of `names`.
    """
    matrix = confusion_matrix(labels_true, labels_pred, names)
    actual, predicted, correct = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    occurs = actual + predicted > 0
    accuracy = float(correct.sum() / matrix.sum())
    return {
        "accuracy": accuracy,
        "macro_f1": float(rates(correct, predicted, actual)["f1"][occurs].mean()),
        "micro_f1": accuracy,
        "matthews_correlation": _matthews_correlation(matrix),
    }


def class_report(
    labels_true: Sequence[Hashable], labels_pred: Sequence[Hashable], names: Sequence[Hashable]
) -> dict[str, Any]:
    """Where a classifier errs; arguments and errors as for `classification_metrics`.

    Returns:
        `per_class`: precision, recall, f1 and support by name, of all `names`; `confusion_matrix`: a row per true
        class, a column per predicted one, in the order of `names`.
    """
    matrix = confusion_matrix(labels_true, labels_pred, names)
    rows = per_class([str(name) for name in names], np.diag(matrix), matrix.sum(0), matrix.sum(1))
    return {"per_class": rows, "confusion_matrix": matrix.tolist()}


def confusion_matrix(
    labels_true: Sequence[Hashable], labels_pred: Sequence[Hashable], names: Sequence[Hashable]
) -> np.ndarray:
    """How often each true class (row) was predicted as each class (column), int64 [C, C]."""
    check_rows("labels", labels_true, labels_pred)
    places = _places(names)
    cells = _numbers(labels_true, places) * len(names) + _numbers(labels_pred, places)
    return np.bincount(cells, minlength=len(names) ** 2).reshape(len(names), len(names))


def _matthews_correlation(matrix: np.ndarray) -> float:
    """The covariance of true and predicted classes over the root of the product of their variances."""
    actual, predicted = matrix.sum(1).astype("float64"), matrix.sum(0).astype("float64")
    total = actual.sum()
    variances = (total**2 - predicted @ predicted) * (total**2 - actual @ actual)
    return float((np.trace(matrix) * total - actual @ predicted) / math.sqrt(variances)) if variances else 0.0


# === Any number of labels each ===


def multi_label_metrics(
    labels_true: Sequence[Collection[Hashable]], labels_pred: Sequence[Collection[Hashable]], names: Sequence[Hashable]
) -> dict[str, float]:
    """Metrics of a set of labels per example.

    Args:
        labels_true: the right labels of each example, any number of `names`.
        labels_pred: the predicted ones.
        names: all classes, each once.

    Returns:
        `micro_f1`, over all decisions together; `macro_f1`, the mean F1 of all `names`; `exact_match`, the share of
        examples whose labels are all right.

    Raises:
        InputError: as for `classification_metrics`.
    """
    true, predicted = _indicators(labels_true, labels_pred, names)
    counts = (true & predicted).sum(0), predicted.sum(0), true.sum(0)
    return {
        "micro_f1": float(rates(*(count.sum() for count in counts))["f1"]),
        "macro_f1": float(rates(*counts)["f1"].mean()),
        "exact_match": float((true == predicted).all(1).mean()),
    }


def multi_label_report(
    labels_true: Sequence[Collection[Hashable]], labels_pred: Sequence[Collection[Hashable]], names: Sequence[Hashable]
) -> dict[str, Any]:
    """`per_class` as in `class_report`; arguments and errors as for `multi_label_metrics`."""
    true, predicted = _indicators(labels_true, labels_pred, names)
    counts = (true & predicted).sum(0), predicted.sum(0), true.sum(0)
    return {"per_class": per_class([str(name) for name in names], *counts)}


def _indicators(
    labels_true: Sequence[Collection[Hashable]], labels_pred: Sequence[Collection[Hashable]], names: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray]:
    """Whether an example has a class, bool [examples, C], true and predicted."""
    check_rows("rows of labels", labels_true, labels_pred)
    places = _places(names)

    def matrix(rows: Sequence[Collection[Hashable]]) -> np.ndarray:
        found = np.zeros((len(rows), len(names)), bool)
        for row, labels in zip(found, rows, strict=True):
            row[_numbers(labels, places)] = True
        return found

    return matrix(labels_true), matrix(labels_pred)


# === Names ===


def _places(names: Sequence[Hashable]) -> dict[Hashable, int]:
    places = {name: i for i, name in enumerate(names)}
    if len(places) != len(names):
        raise InputError(f"the names of classes must differ from each other. Received: {list(names)}")
    return places


def _numbers(labels: Iterable[Hashable], places: dict[Hashable, int]) -> np.ndarray:
    """Class numbers, int64."""
    try:
        return np.array([places[label] for label in labels], "int64")
    except KeyError as error:
        raise InputError(f"label {error.args[0]!r} is none of the classes {', '.join(map(str, places))}") from None
