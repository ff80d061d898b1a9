"""Correlations: by hand, and against what scipy has answered."""

from __future__ import annotations

import math

import pytest
from metrics.golden import GOLDEN, assert_equal

from kbert.errors import InputError
from kbert.metrics.correlation import correlation_metrics


def test_by_hand():
    """Deviations -1, 0, 1 and -2, 1, 1; ranks of the second with a tie: 1, 2.5, 2.5."""
    metrics = correlation_metrics([1, 2, 3], [0, 3, 3])
    assert metrics == pytest.approx({"pearson": 3 / math.sqrt(2 * 6), "spearman": 1.5 / math.sqrt(2 * 1.5)})


@pytest.mark.parametrize("case", GOLDEN["correlation"])
def test_as_scipy(case):
    assert_equal(correlation_metrics(case["true"], case["pred"]), case["metrics"])


def test_a_constant_side_correlates_with_nothing():
    for values in (([0.1] * 3, [1, 2, 3]), ([1, 2, 3], [0.1] * 3), ([1.0], [2.0])):
        assert correlation_metrics(*values) == {"pearson": 0.0, "spearman": 0.0}


def test_large_and_small_numbers_stay_in_range():
    for scale in (1e200, 1e-200):
        assert_equal(correlation_metrics([scale, -scale, 0], [1, -1, 0]), {"pearson": 1.0, "spearman": 1.0})


def test_a_number_that_is_none_shows():
    metrics = correlation_metrics([1, 2, 3], [1, float("nan"), 3])
    assert math.isnan(metrics["pearson"])
    assert math.isnan(metrics["spearman"])


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([], [], "at least one"),
        ([1.0], [1.0, 2.0], "as many predicted as true values"),
        ([[1.0], [2.0]], [1.0, 2.0], "must be one number per example. Received shapes \\(2, 1\\), \\(2,\\)"),
    ],
)
def test_values_that_cannot_be_scored(true, predicted, message):
    with pytest.raises(InputError, match=message):
        correlation_metrics(true, predicted)
