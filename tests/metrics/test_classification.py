"""Metrics of labels: by hand, and against what scikit-learn has answered."""

from __future__ import annotations

import numpy as np
import pytest
from metrics.golden import GOLDEN, assert_equal

from kbert.errors import InputError
from kbert.metrics.classification import (
    class_report,
    classification_metrics,
    confusion_matrix,
    multi_label_metrics,
    multi_label_report,
)

NAMES = ["a", "b", "c", "d"]


def test_one_label_by_hand():
    """a: 2 of 3 found, 2 of 2 right; b: 1 of 1 found, 1 of 2 right; c does not occur."""
    true, predicted = ["a", "a", "a", "b"], ["a", "a", "b", "b"]
    metrics = classification_metrics(true, predicted, ["a", "b", "c"])
    covariance = 3 * 4 - (3 * 2 + 1 * 2)
    assert metrics == pytest.approx(
        {
            "accuracy": 3 / 4,
            "micro_f1": 3 / 4,
            "macro_f1": (4 / 5 + 2 / 3) / 2,
            "matthews_correlation": covariance / ((16 - 8) * (16 - 10)) ** 0.5,
        }
    )
    report = class_report(true, predicted, ["a", "b", "c"])
    assert report["confusion_matrix"] == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert report["per_class"]["a"] == {"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3}
    assert report["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_several_labels_by_hand():
    """Of four decisions for yes and four labels that there are, three agree."""
    true, predicted = [["a", "b"], [], ["a"], ["c"]], [["b", "a"], ["a"], [], ["c"]]
    assert multi_label_metrics(true, predicted, ["a", "b", "c", "d"]) == pytest.approx(
        {"micro_f1": 6 / 8, "macro_f1": (1 / 2 + 1 + 1 + 0) / 4, "exact_match": 2 / 4}
    )
    assert multi_label_report(true, predicted, NAMES)["per_class"]["a"] == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "support": 2,
    }


@pytest.mark.parametrize("case", GOLDEN["classification"])
def test_one_label_as_scikit_learn(case):
    assert_equal(classification_metrics(case["true"], case["pred"], NAMES), case["metrics"])
    report = class_report(case["true"], case["pred"], NAMES)
    assert report["confusion_matrix"] == case["confusion_matrix"]
    rows = np.array([list(row.values()) for row in report["per_class"].values()])
    np.testing.assert_allclose(rows.T, case["rates"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", GOLDEN["multi_label"])
def test_several_labels_as_scikit_learn(case):
    assert_equal(multi_label_metrics(case["true"], case["pred"], NAMES), case["metrics"])
    rows = multi_label_report(case["true"], case["pred"], NAMES)["per_class"].values()
    np.testing.assert_allclose(np.array([list(row.values()) for row in rows]).T, case["rates"], rtol=0, atol=1e-12)


def test_labels_of_other_kinds():
    numbers = confusion_matrix(np.array([0, 2, 2]), np.array([2, 2, 0]), range(3))
    strings = confusion_matrix(np.array(["x", "z", "z"]), ["z", "z", "x"], ["x", "y", "z"])
    assert numbers.tolist() == strings.tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("true", "predicted", "names", "message"),
    [
        ([], [], ["a"], "at least one. Received: 0 predicted, 0 true"),
        (["a"], ["a", "a"], ["a"], "as many predicted as true labels, .* Received: 2 predicted, 1 true"),
        (["a"], ["b"], ["a", "c"], "label 'b' is none of the classes a, c"),
        (["a"], ["a"], ["a", "a"], "must differ from each other. Received: \\['a', 'a'\\]"),
    ],
)
def test_labels_that_cannot_be_scored(true, predicted, names, message):
    with pytest.raises(InputError, match=message):
        classification_metrics(true, predicted, names)
