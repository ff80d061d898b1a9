"""Several models over one encoder: whose weights are the same, and computing with those of the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.errors import InputError
from kbert.modeling.encoder import named_weights
from kbert.tasks.task import Task
from kbert.tokenization.tokenizer import BertTokenizer

_RESERVED = ("classify", "regress")


def check_names(names: list[str]) -> None:
    """Refuse names that no signature can have."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name in _RESERVED:
            raise InputError(
                f"{name!r} cannot name a signature: take letters, digits and '_', and none of {', '.join(_RESERVED)}"
            )


def shared_weights(models: Mapping[str, Task]) -> dict[str, list[tuple[keras.Variable, keras.Variable]]]:
    """For each model, its weights that the first one holds with the same values, each with the first's.

    A pooler that differs counts to the head, since a tagger's is never trained.

    Raises:
        InputError: an encoder is not the first one's.
    """
    (first_name, first), *others = models.items()
    weights = named_weights(first.encoder)
    pairs: dict[str, list[tuple[keras.Variable, keras.Variable]]] = {first_name: []}
    for name, model in others:
        if model.encoder.config != first.encoder.config:
            raise InputError(f"{name} and {first_name} have encoders of different sizes: export them one by one")
        pairs[name] = []
        for path, own in named_weights(model.encoder).items():
            if np.array_equal(own.numpy(), weights[path].numpy()):
                pairs[name].append((own, weights[path]))
            elif "pooler" not in path:
                raise InputError(
                    f"{name} and {first_name} share no encoder, since {path} differs: train both with the same one "
                    "frozen (--frozen-layers), or export them one by one"
                )
    return pairs


@contextmanager
def shared_tokenizers(models: Mapping[str, Task]) -> Iterator[None]:
    """While it lasts, models that read alike have one tokenizer, so that their graphs hold its tables once."""
    own = {name: model.tokenizer for name, model in models.items()}
    first: dict[tuple, BertTokenizer] = {}
    for model in models.values():
        tokenizer = model.tokenizer
        key = (tokenizer.vocabulary, tokenizer.config, tokenizer.max_length, tokenizer.typed_tokens)
        model.tokenizer = first.setdefault(key, tokenizer)
    try:
        yield
    finally:
        for name, model in models.items():
            model.tokenizer = own[name]


def inference(model: Task, shared: list[tuple[keras.Variable, keras.Variable]]) -> Callable[[Mapping[str, Any]], Any]:
    """The model's `infer`, computed with the shared weights of the first."""
    if not shared:
        return model.infer

    def infer(features: Mapping[str, tf.Tensor]) -> Any:
        with keras.StatelessScope(state_mapping=[(own, kept.value) for own, kept in shared]):
            return model.infer(features)

    return infer


def stored_weights(models: Mapping[str, Task], shared: Mapping[str, list[tuple[Any, Any]]]) -> list[tf.Variable]:
    """All weights, those that several models have once."""
    stored = []
    for name, model in models.items():
        elsewhere = {id(own) for own, _ in shared[name]}
        stored += [weight.value for weight in model.weights if id(weight) not in elsewhere]
    return stored
