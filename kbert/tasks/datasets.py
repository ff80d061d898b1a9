"""A user's tf.data of strings and labels, and weights of examples, in the form that training reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.data.batching import mapped_ahead
from kbert.errors import InputError


def weights_of_classes(class_weight: Mapping[Any, float], labels: Sequence[str]) -> np.ndarray:
    """Weights by class number, float32 [C]; 1 for a class that is not named.

    Args:
        class_weight: weights by label or by class number, as in `keras.Model.fit`.
        labels: the model's classes.

    Raises:
        InputError: a class that the model does not know, or a weight that is negative or no finite number.
    """
    weights = np.ones(len(labels), np.float32)
    numbers: dict[Any, int] = {label: i for i, label in enumerate(labels)} | {i: i for i in range(len(labels))}
    for key, weight in class_weight.items():
        if key not in numbers:
            raise InputError(f"class_weight names class {key!r}; the model knows {', '.join(labels)}")
        weights[numbers[key]] = weight
    return _checked("class_weight", weights)


def checked_weights(sample_weight: Any, texts: int) -> np.ndarray:
    """What each text counts, float32 [texts].

    Raises:
        InputError: another shape, or a weight that is negative or no finite number.
    """
    values = _checked("sample_weight", np.asarray(sample_weight, np.float32))
    if values.shape != (texts,):
        raise InputError(f"sample_weight must have shape {(texts,)}. Received: {values.shape}")
    return values


def _checked(name: str, weights: np.ndarray) -> np.ndarray:
    bad = weights[~(np.isfinite(weights) & (weights >= 0))]
    if len(bad):
        raise InputError(f"{name} must be finite and 0 or more. Received: {bad[0]}")
    return weights


def check_alone(initial_step: int, sample_weight: Any) -> None:
    """Refuse what `fit` cannot do with a tf.data."""
    if initial_step or sample_weight is not None:
        raise InputError(
            "initial_step and sample_weight need texts and labels in memory; a tf.data has an order of its own, and "
            "gives sample_weight as the third of (x, y, sample_weight)"
        )


def is_features(dataset: Any) -> bool:
    """Whether a dataset holds the model's inputs already: Keras' fit hands its validation data to `evaluate`."""
    x = dataset.element_spec[0] if isinstance(dataset.element_spec, tuple) else None
    return isinstance(x, dict) and "token_ids" in x


def merged(dataset: tf.data.Dataset, number: int) -> tf.data.Dataset:
    """A tf.data of `number` batches as one (the last of fewer), for tuples of tensors that differ in rows only."""
    if number == 1:
        return dataset

    def merge(*batches):
        def rows(tensor):
            # [number, rows, ...] -> [number * rows, ...]
            if isinstance(tensor, tf.RaggedTensor):
                return tensor.values
            return tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0))

        return tf.nest.map_structure(rows, batches)

    return dataset.ragged_batch(number).map(tf.autograph.experimental.do_not_convert(merge))


def prepared(
    dataset: tf.data.Dataset,
    names: Sequence[str],
    features: Callable[..., dict[str, tf.Tensor]],
    targets: Callable[[tf.Tensor], tf.Tensor],
    class_weight: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Batches of texts and labels as the model's inputs and targets.

    Args:
        dataset: gives `(x, y)` or `(x, y, sample_weight)`; x string [B], or for several inputs a tuple, or a dict by
            `names`; sample_weight float [B].
        names: the inputs of the model.
        features: strings to the model's inputs.
        targets: labels to targets.
        class_weight: by class number, [C].

    Raises:
        InputError: the dataset's elements have another form.
    """
    if not isinstance(dataset.element_spec, tuple) or len(dataset.element_spec) not in (2, 3):
        raise InputError(f"a tf.data must give (texts, labels). Received: {dataset.element_spec}")

    @tf.autograph.experimental.do_not_convert
    def prepare(x, y, sample_weight=None):
        if isinstance(x, dict):
            x = tuple(x[name] for name in names)
        columns = x if isinstance(x, tuple) else (x,)
        y = targets(y)
        weights = [] if sample_weight is None else [tf.cast(sample_weight, tf.float32)]
        if class_weight is not None:
            weights.append(tf.gather(tf.constant(class_weight), y))
        return features(*columns), y, *([tf.reduce_prod(tf.stack(weights), 0)] if weights else [])

    return mapped_ahead(dataset, prepare)
