"""Metrics of entities: by hand, and against what seqeval has answered."""

from __future__ import annotations

import pytest
from metrics.golden import GOLDEN, assert_equal

from kbert.errors import InputError
from kbert.metrics.entities import entities_of_tags, entity_metrics, entity_report, tag_metrics

MACRO_QUARTER = {"macro_precision": 0.25, "macro_recall": 0.25, "macro_f1": 0.25}


def test_spans_by_hand():
    """Of two names one is found, beside one with a wrong end; the place is found in another text only."""
    true = [[(0, 2, "name"), (3, 4, "place")], [(0, 1, "name")]]
    predicted = [[(0, 2, "name")], [(0, 2, "name"), (3, 4, "place"), (3, 4, "place")]]
    metrics = entity_metrics(true, predicted)
    assert metrics == pytest.approx(dict.fromkeys(("precision", "recall", "f1"), 1 / 3) | MACRO_QUARTER)
    assert entity_report(true, predicted) == {
        "per_class": {
            "name": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
            "place": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        }
    }


def test_texts_without_entities():
    assert set(entity_metrics([[], []], [[], []]).values()) == {0.0}
    assert entity_report([[]], [[]]) == {"per_class": {}}


@pytest.mark.parametrize("case", GOLDEN["tags"])
def test_tags_as_seqeval(case):
    assert_equal(tag_metrics(case["true"], case["pred"], case["scheme"]), case["metrics"])


@pytest.mark.parametrize(
    ("scheme", "tags", "spans"),
    [
        (None, "B-x I-x O I-y I-x", [(0, 2, "x"), (3, 4, "y"), (4, 5, "x")]),
        (None, "E-x S-y B-x E-x", [(0, 1, "x"), (1, 2, "y"), (2, 4, "x")]),
        (None, "B O I I", [(0, 1, "_"), (2, 4, "_")]),
        ("IOB1", "I-x B-x I-x O", [(0, 1, "x"), (1, 3, "x")]),
        ("IOB2", "I-x B-x I-x I-y", [(1, 3, "x")]),
        ("IOE2", "I-x E-x E-y I-y", [(0, 2, "x"), (2, 3, "y")]),
        ("IOBES", "B-x I-x S-y B-x E-x", [(2, 3, "y"), (3, 5, "x")]),
        ("BILOU", "U-x B-x L-x B-y", [(0, 1, "x"), (1, 3, "x")]),
        ("IOB2", "", []),
    ],
)
def test_entities_of_tags(scheme, tags, spans):
    assert entities_of_tags(tags.split(), scheme) == spans


def test_the_strict_reading_is_stricter():
    true, predicted = [["B-x", "I-x", "O"]], [["I-x", "I-x", "O"]]
    assert tag_metrics(true, predicted)["f1"] == 1.0
    assert tag_metrics(true, predicted, "IOB2")["f1"] == 0.0


@pytest.mark.parametrize(
    ("true", "predicted", "scheme", "message"),
    [
        ([], [], None, "at least one"),
        ([["O"]], [["O", "O"]], None, "row 0 of tags must be equally long. Received: 1 true, 2 predicted"),
        ([["O"]], [], None, "as many predicted as true rows of entities"),
        ([["O", ""]], [["O", "O"]], None, r"must not be empty. Received: \['O', ''\]"),
        ([["O"]], [["O"]], "BIO", "scheme must be None or one of IOB1, IOB2, IOE2, IOBES, BILOU. Received: 'BIO'"),
        ([["S-x"]], [["O"]], "IOB2", "tag 'S-x' does not belong to IOB2, whose prefixes are I, O, B"),
    ],
)
def test_tags_that_cannot_be_scored(true, predicted, scheme, message):
    with pytest.raises(InputError, match=message):
        tag_metrics(true, predicted, scheme)
