"""Texts of any number to answers: in chunks that memory holds, each in batches of rows of like length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.data.batching import sorted_order

INPUTS = ("token_ids", "segment_ids", "padding_mask")
Engine = Callable[[dict[str, tf.Tensor]], Any]
"""The model's inputs, int32 [B, T], to what a task's `infer` returns: an array or a tensor, or a tuple of them."""

# Of a chunk at most, a single longer text aside; the last were all texts as long as the longest.
_TEXTS, _CHARACTERS, _PADDED = 4096, 1 << 20, 1 << 22
_FILLING: dict[str, Any] = {
    "i": -1,
    "f": 0.0,
    "O": "",
}  # of short rows in the served signature, by the kind of their dtype


def chunks(columns: Sequence[list[str]]) -> Iterator[tuple[list[str], ...]]:
    """Cut parallel lists of texts into chunks."""
    begin, characters, longest = 0, 0, 0
    for i, texts in enumerate(zip(*columns, strict=True)):
        size = sum(map(len, texts))
        longest = max(longest, size)
        full = i - begin == _TEXTS or characters + size > _CHARACTERS or (i - begin + 1) * longest > _PADDED
        if i > begin and full:
            yield tuple(column[begin:i] for column in columns)
            begin, characters, longest = i, 0, size
        characters += size
    yield tuple(column[begin:] for column in columns)


def in_batches(compute: Engine, features: Mapping[str, tf.Tensor], batch_size: int, bar: Any) -> Any:
    """Compute rows in batches of like length, longest first; the results in the order of the rows.

    Args:
        compute: gives arrays whose first axis is the batch; the others may differ from batch to batch, and are filled
            with zeros.
        features: `INPUTS`, int32 [rows, T].
        batch_size: rows computed at once.
        bar: a tqdm bar, advanced by one for each batch.
    """
    arrays = {name: features[name].numpy() for name in INPUTS}
    lengths = arrays["padding_mask"].sum(1)
    order = sorted_order(lengths, batch_size)
    bar.total += len(order)
    results = []
    for index in order:
        # One batch after the other: the threads of a tf.data pipeline would take the cores from the engine's.
        length = max(lengths[index[0]], 1)
        results.append(compute({name: tf.constant(array[index, :length]) for name, array in arrays.items()}))
        bar.update()
    return tf.nest.map_structure(lambda *parts: _restored(order, [np.asarray(part) for part in parts]), *results)


def _restored(order: list[np.ndarray], parts: list[np.ndarray]) -> np.ndarray:
    sizes = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    rows = np.zeros((sum(map(len, order)), *sizes), parts[0].dtype)
    for index, part in zip(order, parts, strict=True):
        place: tuple[Any, ...] = (index, *(slice(size) for size in part.shape[1:]))
        rows[place] = part
    return rows


def concatenated(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The answers of all chunks, filled to the longest row as the served signature fills them: "", -1 or 0.0."""
    if len(parts) == 1:
        return parts[0]
    return {name: _stacked([part[name] for part in parts]) for name in parts[0]}


def _stacked(arrays: list[np.ndarray]) -> np.ndarray:
    sizes = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
    filling: Any = _FILLING[arrays[0].dtype.kind]

    def filled(array: np.ndarray) -> np.ndarray:
        widths = [(0, 0), *((0, size - have) for size, have in zip(sizes, array.shape[1:], strict=True))]
        return np.pad(array, widths, constant_values=filling)

    return np.concatenate([filled(array) for array in arrays])
