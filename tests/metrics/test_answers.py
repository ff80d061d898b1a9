"""Metrics of answers: by hand, and against what the published scripts have answered."""

from __future__ import annotations

import pytest
from metrics.golden import GOLDEN, assert_equal

from kbert.errors import InputError
from kbert.metrics.answers import cmrc2_metrics, cmrc_metrics, squad2_metrics, squad_metrics


@pytest.mark.parametrize(
    ("true", "predicted", "exact", "f1"),
    [
        (["The Film!"], "film", 1, 1),
        (["a good film"], "good  good plot", 0, 2 / 5),
        (["bad", "very good film"], "good film", 0, 4 / 5),
        (["the"], "a", 1, 0),  # nothing is left of either: equal, but with no word in common
        (["über"], "Uber", 0, 0),
    ],
)
def test_squad_by_hand(true, predicted, exact, f1):
    assert squad_metrics([true], [predicted]) == pytest.approx({"exact_match": exact, "f1": f1})


def test_squad2_by_hand():
    """Of two questions with an answer one is half right; of two without, one is left alone."""
    metrics = squad2_metrics([["good film"], ["plot", "the"], [], []], ["film", "", "", "film"])
    assert metrics == pytest.approx(
        {
            "exact_match": 1 / 4,
            "f1": (2 / 3 + 0 + 1 + 0) / 4,
            "has_answer_exact_match": 0,
            "has_answer_f1": 1 / 3,
            "no_answer_exact_match": 1 / 2,
            "no_answer_f1": 1 / 2,
        }
    )


def test_squad2_with_answers_only_has_no_other_part():
    assert set(squad2_metrics([["film"]], ["film"])) == {"exact_match", "f1", "has_answer_exact_match", "has_answer_f1"}


@pytest.mark.parametrize(
    ("true", "predicted", "exact", "f1"),
    [
        (["《北京》。"], "北京", 1, 1),
        (["我爱电影"], "爱电影吗", 0, 2 * 3 / 8),
        (["我爱电影"], "电影我爱", 0, 2 * 2 / 8),  # in one piece: a common subsequence is no longer here
        (["我很爱电影"], "我爱电影", 0, 2 * 3 / 9),  # a common subsequence would be 4 long
        (["NBA球队"], "nba", 0, 2 * 1 / 4),
        (["共3.5%的人"], "3.5%", 0, 2 * 2 / 7),  # 共 3.5 % 的 人
        (["The Film"], "film", 0, 2 / 3),  # articles count here
        (["电影", "我"], "他", 0, 0),
        (["-"], "。", 1, 0),
    ],
)
def test_cmrc_by_hand(true, predicted, exact, f1):
    assert cmrc_metrics([true], [predicted]) == pytest.approx({"exact_match": exact, "f1": f1})


def test_cmrc2_by_hand():
    """Of three questions with an answer one is half right, and one has marks alone; of two without, one is left."""
    metrics = cmrc2_metrics([["我爱电影"], ["好看", "。"], ["《》"], [], []], ["爱电影吗", "", "-", "", "电影"])
    assert metrics == pytest.approx(
        {
            "exact_match": (0 + 0 + 1 + 1 + 0) / 5,
            "f1": (2 * 3 / 8 + 0 + 1 + 1 + 0) / 5,
            "has_answer_exact_match": 1 / 3,
            "has_answer_f1": (2 * 3 / 8 + 0 + 1) / 3,
            "no_answer_exact_match": 1 / 2,
            "no_answer_f1": 1 / 2,
        }
    )


@pytest.mark.parametrize(("answered", "with_none"), [(squad_metrics, squad2_metrics), (cmrc_metrics, cmrc2_metrics)])
def test_questions_that_have_answers_score_alike_beside_others(answered, with_none):
    true, predicted = [["我爱电影", "爱"], ["a good film"], ["NBA球队"]], ["爱电影", "good film!", "nba"]
    expected = answered(true, predicted)
    metrics = with_none([*true, []], [*predicted, "good"])
    assert metrics["has_answer_f1"] == expected["f1"] > 0
    assert metrics["has_answer_exact_match"] == expected["exact_match"]
    assert metrics["f1"] == pytest.approx(expected["f1"] * 3 / 4)


METRICS = {"squad": squad_metrics, "squad2": squad2_metrics, "cmrc": cmrc_metrics}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in METRICS for case in GOLDEN[name]])
def test_as_the_published_scripts(name, case):
    assert_equal(METRICS[name](case["true"], case["pred"]), case["metrics"])


@pytest.mark.parametrize("metrics", [squad_metrics, cmrc_metrics])
def test_a_question_without_an_answer(metrics):
    with pytest.raises(InputError, match="question 1 has no right answer"):
        metrics([["film"], []], ["film", ""])


@pytest.mark.parametrize("metrics", [*METRICS.values(), cmrc2_metrics])
def test_answers_that_cannot_be_scored(metrics):
    with pytest.raises(InputError, match="Received: 0 predicted, 0 true"):
        metrics([], [])
    with pytest.raises(InputError, match="as many predicted as true answers"):
        metrics([["film"]], [])
