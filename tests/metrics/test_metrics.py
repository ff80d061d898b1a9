"""Metrics against cases by hand; tests/parity compares them with scikit-learn, scipy and seqeval."""

from __future__ import annotations

import numpy as np
import pytest

from kbert.metrics.answers import answer_metrics, cmrc_f1, squad_exact, squad_f1
from kbert.metrics.classification import class_report, classification_metrics, confusion_matrix, multi_label_metrics
from kbert.metrics.correlation import pearson, spearman
from kbert.metrics.entities import span_metrics, span_report


def test_classes_by_hand():
    expected, found = [0, 0, 1, 1, 2], [0, 1, 1, 1, 0]
    assert confusion_matrix(expected, found, 4).tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0] * 4]
    metrics = classification_metrics(expected, found, 4)
    assert metrics["accuracy"] == metrics["micro_f1"] == 0.6
    assert metrics["macro_f1"] == pytest.approx((0.5 + 0.8 + 0) / 3), "the fourth class does not occur"
    # (sum of products of counts) by hand: cov = 3*5 - (2*2 + 2*3 + 1*0), variances 25 - 9 and 25 - 13
    assert metrics["matthews"] == pytest.approx(5 / np.sqrt(16 * 12))


def test_two_classes_have_the_usual_matthews_correlation():
    metrics = classification_metrics([1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 1, 0], 2)
    assert metrics["matthews"] == pytest.approx((2 * 2 - 1 * 1) / np.sqrt(3 * 3 * 3 * 3))
    assert classification_metrics([1, 1], [1, 1], 2)["matthews"] == 0.0


def test_any_number_of_classes():
    expected = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    found = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]])
    metrics = multi_label_metrics(expected, found)
    assert metrics == pytest.approx({"exact_match": 1 / 3, "macro_f1": 1 / 3, "micro_f1": 4 / 6})
    rows = class_report(expected, found, ["a", "b", "c"])
    assert [(row["label"], row["precision"], row["recall"], row["support"]) for row in rows] == [
        ("a", 1.0, 1.0, 2),
        ("b", 0.0, 0.0, 1),
        ("c", 0.0, 0.0, 0),
    ]


def test_a_report_of_one_class_each():
    rows = class_report([0, 0, 1], [0, 1, 1], ["x", "y"])
    assert [(row["precision"], row["recall"], row["support"]) for row in rows] == [(1.0, 0.5, 2), (0.5, 1.0, 1)]


def test_correlations_by_hand():
    assert pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [1, 8, 27, 9]) == pytest.approx(0.8)
    assert spearman([1, 1, 2], [3, 3, 5]) == pytest.approx(1), "equal numbers share a rank"
    assert pearson([1, 1, 1], [1, 2, 3]) == spearman([1, 2], [4, 4]) == pearson([], []) == pearson([1], [2]) == 0.0


def test_entities_count_with_edges_and_type():
    expected = [[(0, 4, "LOC"), (6, 9, "PER")], [], [(1, 2, "LOC")]]
    found = [[(0, 4, "LOC"), (6, 9, "LOC")], [(0, 1, "PER")], [(1, 3, "LOC")]]
    assert span_metrics(expected, found) == pytest.approx({"precision": 1 / 4, "recall": 1 / 3, "f1": 2 / 7})
    assert [(row["label"], row["f1"], row["support"]) for row in span_report(expected, found)] == [
        ("LOC", pytest.approx(2 / 5), 2),
        ("PER", 0.0, 1),
    ]
    assert span_metrics([[]], [[]]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


@pytest.mark.parametrize(
    ("found", "expected", "exact", "f1"),
    [
        ("The Denver Broncos!", "denver broncos", 1, 1),
        ("in New York City", "New York", 0, 2 * (2 / 4) * 1 / (2 / 4 + 1)),
        ("", "", 1, 1),
        ("", "Rome", 0, 0),
        ("the", "a", 1, 1),
        ("a a b", "a b b", 0, 2 * (1 / 1) * (1 / 2) / (3 / 2)),
    ],
)
def test_answers_as_squad_compares_them(found, expected, exact, f1):
    assert squad_exact(found, expected) == exact
    assert squad_f1(found, expected) == pytest.approx(f1)


def test_chinese_answers_by_their_longest_common_stretch():
    assert cmrc_f1("《红楼梦》", "红楼梦") == 1
    assert cmrc_f1("在北京大学学习", "北京大学") == pytest.approx(2 * (4 / 7) * 1 / (4 / 7 + 1))
    assert cmrc_f1("1998年5月", "5月1998年") == pytest.approx(2 * 0.5 * 0.5), "1998 and 年 in a row, of four"
    assert cmrc_f1("", "北京") == 0
    metrics = answer_metrics(["北京。", "上海"], [["北京"], ["广州", "上海市"]])
    assert metrics == {"exact_match": 0.5, "f1": pytest.approx((1 + 0.8) / 2)}


def test_the_best_of_several_answers_counts():
    metrics = answer_metrics(["Rome", "", "x"], [["Paris", "in Rome"], [], ["x y", "z"]])
    assert metrics["exact_match"] == pytest.approx(1 / 3)
    assert metrics["f1"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
