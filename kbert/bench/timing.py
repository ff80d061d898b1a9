"""Contenders timed in turn, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm


@dataclass(frozen=True)
class Contender:
    """One way to do the work."""

    name: str
    run: Callable[[], object]
    """Does all of the work once, to the last result."""
    note: str = ""
    """What a reader must know to compare it."""
    amount: float | None = None
    """Work that a run does, where the contenders do not all do the same."""


@dataclass(frozen=True)
class Measurement:
    """How quick a contender was; rates are amounts of work per second."""

    name: str
    unit: str
    best: float
    median: float
    baseline: str
    ratio_best: float
    """`best` by that of the baseline."""
    ratio_median: float
    note: str = ""
    details: dict[str, float] = field(default_factory=dict)
    """More figures, by name."""


def compare(
    contenders: Sequence[Contender], amount: float, unit: str, rounds: int, description: str
) -> list[Measurement]:
    """Time contenders one after the other, `rounds` times over, after a round that does not count.

    Args:
        contenders: The first of them is the baseline.
        amount: Work that a run does.
        unit: What a rate of 1 is, "MB/s".
        rounds: Timed runs of each.
        description: Stands before the progress bar, on stderr.
    """
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for counts, contender in in_turn(contenders, rounds, description):
        start = time.perf_counter()
        contender.run()
        seconds = time.perf_counter() - start
        if counts:
            rates[contender.name].append((amount if contender.amount is None else contender.amount) / seconds)
    return ranked(rates, unit, {contender.name: contender.note for contender in contenders})


def in_turn(contenders: Sequence[Any], rounds: int, description: str) -> Iterator[tuple[bool, Any]]:
    """Every contender once a round, and whether the round counts: the first one does not."""
    for i in tqdm(range(rounds + 1), desc=description, unit="round", leave=False):
        for contender in contenders:
            yield i > 0, contender


def ranked(rates: Mapping[str, Sequence[float]], unit: str, notes: Mapping[str, str]) -> list[Measurement]:
    """The best and the median of each contender's rates, against those of the first.

    Args:
        rates: Name -> the rates of all rounds.
        unit: What a rate of 1 is.
        notes: Name -> what a reader must know.
    """
    base = next(iter(rates))
    best = {name: max(values) for name, values in rates.items()}
    median = {name: statistics.median(values) for name, values in rates.items()}
    return [
        Measurement(
            name,
            unit,
            best[name],
            median[name],
            base,
            best[name] / best[base],
            median[name] / median[base],
            notes[name],
        )
        for name in rates
    ]
