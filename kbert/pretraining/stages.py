"""How long the sequences of a run are, from step to step."""

from __future__ import annotations

import math
from typing import NamedTuple

from kbert.errors import InputError

_SHORTEST = 8  # [CLS], [SEP], and something to guess from


class Stage(NamedTuple):
    """A part of a run whose sequences are cut to one length."""

    length: int
    """Tokens of the longest sequence."""
    steps: int
    """Optimizer steps."""


def stages_of(lengths: str, steps: int) -> list[Stage]:
    """The stages of a run: short sequences first, since attention costs less there (Devlin et al. 2018, appendix A.2).

    Args:
        lengths: "128", or "128:0.9,512:0.1": nine tenths of the steps at 128, the rest at 512.
        steps: optimizer steps of the run.

    Raises:
        InputError: a text that says no such thing, or a stage without a step.
    """
    try:
        parts = [(int(length), float(rate or 1)) for length, _, rate in (p.partition(":") for p in lengths.split(","))]
    except ValueError:
        parts = []
    if not parts or not math.isclose(sum(rate for _, rate in parts), 1, abs_tol=1e-6):
        raise InputError(f"--lengths must be like 128, or 128:0.9,512:0.1, adding up to 1. Received: {lengths!r}")
    stages, done, passed = [], 0, 0.0
    for length, rate in parts:
        passed += rate
        end = round(steps * passed)
        stages.append(Stage(length, end - done))
        done = end
    for stage in stages:
        if stage.length < _SHORTEST:
            raise InputError(f"--lengths must be {_SHORTEST} tokens or more. Received: {lengths!r}")
        if stage.steps < 1:
            raise InputError(f"--lengths {lengths} leaves no step of {steps} for length {stage.length}: raise --steps")
    return stages
