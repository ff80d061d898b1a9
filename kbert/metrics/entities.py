"""Metrics of entities: right is what has the same edges and the same type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from kbert.metrics.classification import precision_recall_f1

Entity = tuple[int, int, str]
"""Begin, end (exclusive) and type."""


def span_metrics(expected: Sequence[Iterable[Entity]], found: Sequence[Iterable[Entity]]) -> dict[str, float]:
    """Precision, recall and F1 over the entities of all texts and types together ("micro").

    Args:
        expected: the entities of each text.
        found: the same.
    """
    hits, decided, wanted = (counts.total() for counts in _counts(expected, found))
    return precision_recall_f1(hits, decided, wanted)


def span_report(expected: Sequence[Iterable[Entity]], found: Sequence[Iterable[Entity]]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of the entities of each type."""
    hits, decided, wanted = _counts(expected, found)
    return [
        {"label": type, **precision_recall_f1(hits[type], decided[type], wanted[type]), "support": wanted[type]}
        for type in sorted(decided | wanted)
    ]


def _counts(
    expected: Sequence[Iterable[Entity]], found: Sequence[Iterable[Entity]]
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """By type: how many were found rightly, how many were found, how many there are."""
    hits: Counter[str] = Counter()
    decided: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for there, here in zip(expected, found, strict=True):
        there, here = set(there), set(here)
        hits.update(type for _, _, type in there & here)
        decided.update(type for _, _, type in here)
        wanted.update(type for _, _, type in there)
    return hits, decided, wanted
