"""What users pass to `fit`, `evaluate` and `predict`, turned into texts, pairs and label numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.errors import InputError


def texts_and_pairs(x: Any, pair: bool) -> tuple[list[str], list[str] | None]:
    """Split the `x` of a task model.

    Args:
        x: texts [B]; for pairs a tuple `(texts, pairs)` or a dict with `text` and `text_pair`; or a batched tf.data of
            any of these.
        pair: whether the model reads pairs.

    Raises:
        InputError: `x` has another form, or the two sides differ in length.
    """
    if isinstance(x, tf.data.Dataset):
        x = _from_dataset(x)
    if isinstance(x, Mapping):
        x = (x.get("text"), x["text_pair"]) if "text_pair" in x else x.get("text")
    is_pair = isinstance(x, tuple)
    if is_pair != pair:
        wanted = "pairs: pass a tuple (texts, pairs)" if pair else "single texts: pass a list of str"
        raise InputError(f"this model reads {wanted}. Received: {type(x).__name__}")
    if not pair:
        return _texts(x), None
    texts, pairs = map(_texts, x)
    if len(texts) != len(pairs):
        raise InputError(f"texts and pairs must be equally many. Received: {len(texts)} and {len(pairs)}")
    return texts, pairs


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
