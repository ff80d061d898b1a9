"""A user's tf.data of strings and labels, and weights of examples, in the form that training reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

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


def weights_of_examples(labels: np.ndarray, classes: np.ndarray | None, sample_weight: Any) -> np.ndarray | None:
    """What each example counts, float32 [examples]; None where all count one.

    Args:
        labels: class numbers [examples].
        classes: weights by class number, or None.
        sample_weight: weights by example, or None; on top of those of the classes.

    Raises:
        InputError: `sample_weight` has another shape, or a weight is negative or no finite number.
    """
    weights = None if classes is None else classes[labels]
    if sample_weight is None:
        return weights
    values = _checked("sample_weight", np.asarray(sample_weight, np.float32))
    if values.shape != labels.shape:
        raise InputError(f"sample_weight must have shape {labels.shape}. Received: {values.shape}")
    return values if weights is None else values * weights


def _checked(name: str, weights: np.ndarray) -> np.ndarray:
    bad = weights[~(np.isfinite(weights) & (weights >= 0))]
    if len(bad):
        raise InputError(f"{name} must be finite and 0 or more. Received: {bad[0]}")
    return weights


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


def features_and_labels(
    dataset: tf.data.Dataset,
    features: Callable[..., dict[str, tf.Tensor]],
    labels: Sequence[str],
    class_weight: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Batches of texts and labels as the model's inputs and class numbers.

    Args:
        dataset: gives `(x, y)` or `(x, y, sample_weight)`; x string [B], a tuple of two or a dict with `text` and
            `text_pair`; y string or int [B]; sample_weight float [B].
        features: strings to the model's inputs.
        labels: the model's classes.
        class_weight: by class number, [C].

    Raises:
        InputError: the dataset's elements have another form.
    """
    if not isinstance(dataset.element_spec, tuple) or len(dataset.element_spec) not in (2, 3):
        raise InputError(f"a tf.data must give (texts, labels). Received: {dataset.element_spec}")
    names = tf.constant(labels)

    @tf.autograph.experimental.do_not_convert
    def prepare(x, y, sample_weight=None):
        if isinstance(x, dict):
            x = tuple(x[name] for name in ("text", "text_pair") if name in x)
        pair = x if isinstance(x, tuple) else (x,)
        if y.dtype == tf.string:
            matches = y[:, None] == names[None, :]  # [B, C]
            check = tf.debugging.assert_equal(tf.reduce_any(matches, 1), True, "a label that the model lacks")
            with tf.control_dependencies([check]):
                y = tf.argmax(matches, axis=1, output_type=tf.int32)
        weights = [] if sample_weight is None else [tf.cast(sample_weight, tf.float32)]
        if class_weight is not None:
            weights.append(tf.gather(tf.constant(class_weight), y))
        return features(*pair), y, *([tf.reduce_prod(tf.stack(weights), 0)] if weights else [])

    return dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
