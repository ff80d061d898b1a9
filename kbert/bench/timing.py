"""Contenders timed in turn, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tqdm import tqdm


@dataclass(frozen=True)
class Contender:
    """One way to do the work."""

    name: str
    run: Callable[[], object]
    """Does all of the work once, to the last result."""
    note: str = ""
    """What a reader must know to compare it."""


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
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for i in tqdm(range(rounds + 1), desc=description, unit="round", leave=False):
        for contender in contenders:
            start = time.perf_counter()
            contender.run()
            if i:
                seconds[contender.name].append(time.perf_counter() - start)
    best = {name: amount / min(times) for name, times in seconds.items()}
    median = {name: amount / statistics.median(times) for name, times in seconds.items()}
    base = contenders[0].name
    return [
        Measurement(
            c.name,
            unit,
            best[c.name],
            median[c.name],
            base,
            best[c.name] / best[base],
            median[c.name] / median[base],
            c.note,
        )
        for c in contenders
    ]
