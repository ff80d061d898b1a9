"""How a model is fine-tuned, whatever its task: the numbers that papers call the recipe."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kbert.errors import InputError


def _number(default: float, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What `compile` is told beside optimizer, loss and metrics. Defaults are what BERT is usually fine-tuned with."""

    learning_rate: float = _number(2e-5, "peak learning rate of AdamW")
    weight_decay: float = _number(0.01, "decoupled weight decay, not on biases and layer norms")
    warmup_rate: float = _number(0.1, "fraction of all steps over which the learning rate rises")
    layer_decay: float = _number(
        1.0, "each layer's rate as a part of the next higher one's: lower layers hold what all tasks share"
    )
    frozen_layers: int = _number(
        0, "lowest layers that stay as they are (1: the embeddings, 2: and a block, …): less time and memory"
    )
    label_smoothing: float = _number(
        0.0, "part of a label's weight that goes to all classes: less sure of wrong labels"
    )
    fgm: float = _number(
        0.0, "how far adversarial training moves the word embeddings (1 is usual): steadier, twice the time"
    )
    r_drop: float = _number(
        0.0, "weight of the distance between two passes with other dropout: steadier, twice the time"
    )

    def __post_init__(self):
        for name, complaint in complaints(dataclasses.asdict(self)):
            raise InputError(f"{name} {complaint}")


# What is idle where the caller gives an optimizer, or a loss.
OF_OPTIMIZER = frozenset(("learning_rate", "weight_decay", "warmup_rate", "layer_decay"))
OF_LOSS = frozenset(("label_smoothing",))
FIELDS = {f.name: f for f in dataclasses.fields(Recipe)}

_FINITE = (math.isfinite, "must be a finite number")
_POSITIVE = (lambda x: x > 0, "must be more than 0")
_NOT_NEGATIVE = (lambda x: x >= 0, "must be 0 or more")
_CHECKS: dict[str, tuple[tuple[Callable[[float], bool], str], ...]] = {
    "learning_rate": (_FINITE, _POSITIVE),
    "weight_decay": (_FINITE, _NOT_NEGATIVE),
    "warmup_rate": ((lambda x: 0 <= x <= 1, "must be in [0, 1]"),),
    "layer_decay": ((lambda x: 0 < x <= 1, "must be more than 0 and at most 1"),),
    "frozen_layers": (_NOT_NEGATIVE,),
    "label_smoothing": ((lambda x: 0 <= x < 1, "must be in [0, 1)"),),
    "fgm": (_FINITE, _NOT_NEGATIVE),
    "r_drop": (_FINITE, _NOT_NEGATIVE),
}


def complaints(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields of a recipe that cannot be, each with what is asked of it and what it is."""
    for name, checks in _CHECKS.items():
        for holds, text in checks:
            if name in values and not holds(values[name]):
                yield name, f"{text}. Received: {values[name]}"
