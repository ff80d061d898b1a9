"""What users pass to `fit`, `evaluate` and `predict`, turned into texts, pairs and label numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.errors import InputError


def text_columns(x: Any, names: Sequence[str]) -> tuple[list[str], ...]:
    """Split the `x` of a task model into its columns.

    Args:
        x: texts [B]; for a model that reads two a tuple of both, or a dict of them by name; or a batched tf.data of
            any of these.
        names: what the model reads, the inputs of its served signature.

    Raises:
        InputError: `x` has another form, or the two sides differ in length.
    """
    if isinstance(x, tf.data.Dataset):
        x = _from_dataset(x)
    if isinstance(x, Mapping) and set(names) <= set(x):
        x = tuple(x[name] for name in names) if len(names) > 1 else x[names[0]]
    if isinstance(x, (tuple, Mapping)) != (len(names) > 1) or (isinstance(x, tuple) and len(x) != len(names)):
        wanted = f"pairs: pass a tuple ({', '.join(names)})" if len(names) > 1 else "single texts: pass a list of str"
        raise InputError(f"this model reads {wanted}. Received: {type(x).__name__}")
    if len(names) == 1:
        return (_texts(x),)
    columns = tuple(map(_texts, x))
    if len({len(column) for column in columns}) > 1:
        sizes = " and ".join(str(len(column)) for column in columns)
        raise InputError(f"{' and '.join(names)} must be equally many. Received: {sizes}")
    return columns


def label_numbers(y: Any, labels: Sequence[str]) -> np.ndarray:
    """Labels (str, or int class numbers) [B] as int32 class numbers [B].

    Raises:
        InputError: a label that the model does not know.
    """
    values = np.asarray(y)
    if values.ndim != 1:
        raise InputError(f"`y` must have one label per text. Received shape: {values.shape}")
    if np.issubdtype(values.dtype, np.integer):
        bad = values[(values < 0) | (values >= len(labels))]
        if len(bad):
            raise InputError(f"`y` holds class {bad[0]}; the model has {len(labels)} classes: {', '.join(labels)}")
        return values.astype(np.int32)
    numbers = {label: i for i, label in enumerate(labels)}
    names = [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    try:
        return np.array([numbers[name] for name in names], np.int32)
    except KeyError as error:
        raise InputError(f"`y` holds label {error.args[0]!r}; the model knows {', '.join(labels)}") from None


def to_numpy(value: tf.Tensor) -> np.ndarray:
    """A tensor as an array; strings as Python str."""
    array: np.ndarray = value.numpy()
    if value.dtype != tf.string:
        return array
    flat: Iterable[bytes] = array.ravel()
    return np.array([item.decode("utf8") for item in flat], dtype=object).reshape(array.shape)


def _from_dataset(dataset: tf.data.Dataset) -> Any:
    """All texts of a batched dataset of strings, or of tuples or dicts of strings."""
    batches = list(dataset.as_numpy_iterator())
    if isinstance(dataset.element_spec, tuple):
        return tuple(np.concatenate(column) for column in zip(*batches, strict=True))
    if isinstance(dataset.element_spec, dict):
        return {name: np.concatenate([batch[name] for batch in batches]) for name in dataset.element_spec}
    return np.concatenate(batches)


def _texts(x: Any) -> list[str]:
    if isinstance(x, str):
        raise InputError("pass a list of texts, not one str")
    if hasattr(x, "numpy"):
        x = x.numpy()
    texts = [text.decode("utf8", "replace") if isinstance(text, bytes) else text for text in x]
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {i} must be a str. Received: {text!r}")
    if not texts:
        raise InputError("no texts were given")
    return texts
