"""Long lists of inputs cut into requests, and the answers to them joined again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from kbert.errors import InputError


def cut(inputs: Mapping[str, np.ndarray], batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """The inputs of each request, in order; one request without rows if there are no rows.

    Args:
        inputs: input name -> array [N, ...].
        batch_size: rows of a request; the last one may have fewer.

    Raises:
        InputError: the inputs do not have the same number of rows.
    """
    sizes = {name: array.shape[:1] for name, array in inputs.items()}
    if len(set(sizes.values())) != 1 or () in sizes.values():
        raise InputError(f"predict_many: the inputs must have the same number of rows. Received: {sizes}")
    ((rows,),) = set(sizes.values())
    for start in range(0, max(rows, 1), batch_size):
        yield {name: array[start : start + batch_size] for name, array in inputs.items()}


def join(answers: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The outputs of several requests as those of one.

    A model pads its rows to the longest of a request, so the requests' widths differ: all are padded to the widest,
    the way exported models pad ("" for strings, -1 for signed integers, 0 for other numbers, False).

    Args:
        answers: one or more; output name -> array [B, ...], with B of its own for each answer.

    Returns:
        Output name -> array [sum of the B, ...].

    Raises:
        InputError: an answer has other outputs than the first, or other ranks or dtypes, or an output is a scalar.
    """
    for answer in answers:
        if answer.keys() != answers[0].keys():
            raise InputError(
                f"predict_many: one request was answered with {sorted(answers[0])}, another with {sorted(answer)}: "
                "the model changed meanwhile, so name its `version`"
            )
    return {name: _join(name, [answer[name] for answer in answers]) for name in answers[0]}


def _join(name: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    first = arrays[0]
    if not first.ndim or any((array.ndim, array.dtype) != (first.ndim, first.dtype) for array in arrays):
        kinds = sorted({f"{array.dtype}{list(array.shape)}" for array in arrays})
        raise InputError(f"predict_many: output {name!r} cannot be joined along a first dimension. Received: {kinds}")
    trailing = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
    joined = np.full((sum(map(len, arrays)), *trailing), _padding(name, first.dtype), first.dtype)
    start = 0
    for array in arrays:
        region = (slice(start, start + len(array)), *(slice(size) for size in array.shape[1:]))
        joined[region] = array
        start += len(array)
    return joined


def _padding(name: str, dtype: np.dtype) -> object:
    if dtype.kind == "O":
        return b"" if name.endswith("_bytes") else ""
    return -1 if dtype.kind == "i" else 0
