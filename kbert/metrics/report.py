"""Reports as Markdown: a table of the classes, what is taken for what, and the worst mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_LONGEST = 120  # characters of a text in a table


def class_table(report: Mapping[str, Any]) -> str:
    """Precision, recall, F1 and support of every class.

    Args:
        report: what `class_report`, `multi_label_report` or `entity_report` returned.
    """
    rates = ("precision", "recall", "f1")
    rows = [
        [name, *(f"{row[rate]:.4f}" for rate in rates), row["support"]] for name, row in report["per_class"].items()
    ]
    return _table(["class", *rates, "support"], rows, numbers=4)


def confusion_table(report: Mapping[str, Any]) -> str:
    """How often each class (a row) was predicted as each class (a column).

    Args:
        report: what `class_report` returned.
    """
    names = list(report["per_class"])
    rows = [[name, *counts] for name, counts in zip(names, report["confusion_matrix"], strict=True)]
    return _table(["true / predicted", *names], rows, numbers=len(names))


def mistakes_table(rows: Iterable[Mapping[str, Any]], limit: int = 20) -> str:
    """The wrong answers that a model was most sure of, surest first.

    Args:
        rows: one mapping per example: `expected` and `answer`, which differ in a wrong one, `score`, the model's
            confidence, and whatever else is to be shown, such as `text`.
        limit: how many rows the table has at most.
    """
    wrong = [row for row in rows if row["expected"] != row["answer"]]
    worst = sorted(wrong, key=lambda row: row["score"], reverse=True)[:limit]
    shown = list(dict.fromkeys(name for row in worst for name in row))
    first = ["score", "expected", "answer"]
    columns = first + [name for name in shown if name not in first]
    return _table(columns, [[_text(row.get(name, "")) for name in columns] for row in worst])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: int = 0) -> str:
    """A Markdown table whose last columns, `numbers` of them, are aligned to the right."""
    lines = [
        columns,
        ["---"] * (len(columns) - numbers) + ["---:"] * numbers,
        *rows,
    ]
    return "".join(f"| {' | '.join(_cell(value) for value in line)} |\n" for line in lines)


def _cell(value: Any) -> str:
    """Text that stays in its cell, whatever is in it."""
    return " ".join(str(value).split()).replace("\\", "\\\\").replace("|", "\\|")
