"""Reports as Markdown."""

from __future__ import annotations

from kbert.metrics.classification import class_report
from kbert.metrics.entities import entity_report
from kbert.metrics.report import class_table, confusion_table, mistakes_table

REPORT = class_report(["good", "good", "b|d"], ["good", "b|d", "b|d"], ["good", "b|d"])


def test_a_table_of_classes():
    assert class_table(REPORT) == (
        "| class | precision | recall | f1 | support |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| good | 1.0000 | 0.5000 | 0.6667 | 2 |\n"
        "| b\\|d | 0.5000 | 1.0000 | 0.6667 | 1 |\n"
    )
    assert class_table(entity_report([[(0, 1, "name")]], [[]])).endswith("| name | 0.0000 | 0.0000 | 0.0000 | 1 |\n")


def test_a_table_of_confusions():
    assert confusion_table(REPORT) == (
        "| true / predicted | good | b\\|d |\n| --- | ---: | ---: |\n| good | 1 | 1 |\n| b\\|d | 0 | 1 |\n"
    )


def test_mistakes_come_surest_first_and_stay_in_their_cells():
    rows = [
        {"text": "right", "expected": "x", "answer": "x", "score": 0.99},
        {"text": "unsure", "expected": "x", "answer": "y", "score": 0.5},
        {"text": "a | b\n c\\", "expected": "x", "answer": "y", "score": 0.9},
        {"text": "长" * 200, "expected": ["x", "y"], "answer": [], "score": 0.7},
    ]
    lines = mistakes_table(rows, limit=2).splitlines()
    assert lines == [
        "| score | expected | answer | text |",
        "| --- | --- | --- | --- |",
        "| 0.9000 | x | y | a \\| b c\\\\ |",
        f"| 0.7000 | x, y |  | {'长' * 119}… |",
    ]
    assert len(mistakes_table(rows[:1]).splitlines()) == 2
