"""Requests that wait, and are computed together: the queue and the threads of one version of a model.

Requests of the same signature whose inputs have the same names, dtypes and trailing shapes are joined along the first
dimension, and each gets its rows of the outputs. Its answer is what it would have got alone, up to rounding:

- An output as wide as the batch needs, such as a tagger's `entity_text` [B, E], comes as wide as the request's own rows
  need, which its `entity_count` [B] tells (`Joining.counts`). TF Serving's batching leaves such outputs as wide as the
  whole batch needs them.
- Where the width is not told so, requests of the signature are computed alone, which TF Serving's batching does not do.
- If the batch fails, each of its requests is tried alone, so that one that is wrong does no harm to the others. In TF
  Serving all of them fail.

A signature in which one row's answer depends on the other rows must not be batched, here as there.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from kbert.serving.calls import Code, ServingError, logger
from kbert.serving.options import ServerOptions

Arrays = Mapping[str, np.ndarray]
Run = Callable[[str, Arrays], dict[str, np.ndarray]]
"""From a signature's name and its inputs to all of its outputs."""


@dataclass(frozen=True)
class Joining:
    """How a signature's requests are joined."""

    counts: Mapping[str, str] = field(default_factory=dict)
    """Output [B, W] -> the output [B] that says how many of each row's W are no padding."""


@dataclass(frozen=True)
class Patience:
    """How long somebody waits for an answer."""

    deadline: float = math.inf
    """On `time.monotonic`'s clock."""
    tell_to_cancel: Callable[[Callable[[], object]], object] = lambda cancel: None
    """Takes what is to be called if nobody waits any longer."""


@dataclass(eq=False)
class _Waiting:
    signature: str
    inputs: Arrays
    rows: int
    key: Hashable
    joining: Joining | None
    deadline: float
    entered: float = field(default_factory=time.monotonic)
    answer: Future[dict[str, np.ndarray]] = field(default_factory=Future)

    def is_awaited(self) -> bool:
        """False once it is cancelled or its time is over; it has its answer then."""
        if self.answer.cancelled():
            return False
        if time.monotonic() >= self.deadline:
            if self.answer.set_running_or_notify_cancel():
                self.answer.set_exception(_too_late())
            return False
        return True


class Batcher:
    """Computes what is submitted, in batches, on threads of its own.

    Args:
        run: computes one batch.
        options: its sizes and times.
        done: is told of each batch: its signature, the seconds that its requests had waited, its rows, the seconds it
            took.
        name: of its threads.
    """

    def __init__(
        self, run: Run, options: ServerOptions, done: Callable[[str, Sequence[float], int, float], None], name: str
    ):
        self._run = run
        self._options = options
        self._done = done
        self._queue: deque[_Waiting] = deque()
        self._queued_rows = 0
        self._idle_threads = options.batch_threads
        self._unjoinable: set[str] = set()
        self._closed = False
        self._changed = threading.Condition()
        for _ in range(options.batch_threads):
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def ask(self, signature: str, inputs: Arrays, joining: Joining | None, patience: Patience) -> dict[str, np.ndarray]:
        """The outputs of a signature; blocks until they are there.

        Args:
            signature: its name.
            inputs: input name -> array.
            joining: None for a signature whose requests are computed alone.
            patience: how long to wait.

        Raises:
            ServingError: RESOURCE_EXHAUSTED if too much waits already, DEADLINE_EXCEEDED, CANCELLED, UNAVAILABLE once
                closed; and whatever `run` raises for this request alone.
        """
        waiting = self._enter(signature, inputs, joining, patience.deadline)
        patience.tell_to_cancel(waiting.answer.cancel)
        try:
            return waiting.answer.result(_seconds_until(patience.deadline))
        except CancelledError:
            raise ServingError(Code.CANCELLED, "the request was cancelled") from None
        except TimeoutError:
            waiting.answer.cancel()
            raise _too_late() from None

    def close(self) -> None:
        """Compute what waits, and take nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # === Entering ===

    def _enter(self, signature: str, inputs: Arrays, joining: Joining | None, deadline: float) -> _Waiting:
        sizes = {array.shape[:1] for array in inputs.values()}
        rows = next(iter(sizes))[0] if len(sizes) == 1 and () not in sizes else 0
        if not 0 < rows <= self._options.max_batch_size or signature in self._unjoinable:
            joining = None
        shapes = frozenset((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items())
        key = object() if joining is None else (signature, shapes)
        waiting = _Waiting(signature, inputs, rows, key, joining, deadline)
        counted = max(rows, 1)
        with self._changed:
            if self._closed:
                raise ServingError(Code.UNAVAILABLE, "the model is being unloaded")
            # What a thread without work is about to take does not wait.
            room = self._options.max_queue + self._options.max_batch_size * self._idle_threads
            if self._queue and self._queued_rows + counted > room:
                self._drop_unawaited()
            # An empty queue takes any request: one larger than the queue could otherwise never be answered.
            if self._queue and self._queued_rows + counted > room:
                raise ServingError(
                    Code.RESOURCE_EXHAUSTED,
                    f"{self._queued_rows} rows wait already, of {room} that may: ask again later",
                )
            self._queue.append(waiting)
            self._queued_rows += counted
            self._changed.notify()
        return waiting

    def _drop_unawaited(self) -> None:
        self._queue = deque(waiting for waiting in self._queue if waiting.is_awaited())
        self._queued_rows = sum(max(waiting.rows, 1) for waiting in self._queue)

    # === Computing ===

    def _work(self) -> None:
        while batch := self._next_batch():
            self._compute([waiting for waiting in batch if waiting.answer.set_running_or_notify_cancel()])

    def _next_batch(self) -> list[_Waiting]:
        """What the oldest request is computed with; empty once closed."""
        with self._changed:
            while True:
                self._drop_unawaited()
                if self._queue:
                    batch, is_full = self._gathered()
                    wait = batch[0].entered + self._options.batch_timeout_ms / 1000 - time.monotonic()
                    if is_full or wait <= 0 or self._closed:
                        taken = set(map(id, batch))
                        self._queue = deque(waiting for waiting in self._queue if id(waiting) not in taken)
                        self._queued_rows -= sum(max(waiting.rows, 1) for waiting in batch)
                        self._changed.notify()  # another thread may compute what is left
                        return batch
                    self._changed.wait(wait)
                elif self._closed:
                    return []
                else:
                    self._changed.wait()

    def _gathered(self) -> tuple[list[_Waiting], bool]:
        """The oldest request and those that join it, and whether no other could."""
        first, *others = self._queue
        batch, rows = [first], first.rows
        if first.joining is None:
            return batch, True
        for waiting in others:
            if waiting.key == first.key:
                if rows + waiting.rows > self._options.max_batch_size:
                    return batch, True
                batch.append(waiting)
                rows += waiting.rows
        return batch, rows == self._options.max_batch_size

    def _compute(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        start = time.monotonic()
        rows = sum(waiting.rows for waiting in batch)
        try:
            with self._busy():  # until before the answers: who has one may ask again at once
                outputs = self._run(batch[0].signature, _joined(batch))
            answers = list(_split(outputs, batch)) if len(batch) > 1 else [outputs]
        except Exception as error:
            self._failed(batch, error)
        else:
            waits = [start - waiting.entered for waiting in batch]
            self._done(batch[0].signature, waits, rows, time.monotonic() - start)
            for waiting, answer in zip(batch, answers, strict=True):
                waiting.answer.set_result(answer)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        with self._changed:
            self._idle_threads -= 1
        try:
            yield
        finally:
            with self._changed:
                self._idle_threads += 1

    def _failed(self, batch: list[_Waiting], error: Exception) -> None:
        if len(batch) == 1:
            batch[0].answer.set_exception(error)
            return
        if isinstance(error, _NotByRowError):
            self._unjoinable.add(batch[0].signature)
            logger.warning("signature %r is no longer batched: %s", batch[0].signature, error)
        for waiting in batch:
            if time.monotonic() >= waiting.deadline:
                waiting.answer.set_exception(_too_late())
            else:
                self._compute([waiting])


class _NotByRowError(Exception):
    """The outputs of a batch do not fall into the rows of its inputs."""


def _joined(batch: Sequence[_Waiting]) -> Arrays:
    if len(batch) == 1:
        return batch[0].inputs
    return {name: np.concatenate([waiting.inputs[name] for waiting in batch]) for name in batch[0].inputs}


def _split(outputs: Arrays, batch: Sequence[_Waiting]) -> Iterator[dict[str, np.ndarray]]:
    """Each request's rows of the outputs, no wider than these rows need."""
    joining, ends = batch[0].joining, np.cumsum([waiting.rows for waiting in batch])
    assert joining is not None
    for name, array in outputs.items():
        if array.shape[:1] != (ends[-1],):
            raise _NotByRowError(f"{ends[-1]} rows gave the output {name!r} of the shape {array.shape}")
    for waiting, end in zip(batch, ends, strict=True):
        part = {name: array[end - waiting.rows : end] for name, array in outputs.items()}
        for name, count in joining.counts.items():
            part[name] = part[name][:, : max(part[count])]
        yield part


def _seconds_until(deadline: float) -> float | None:
    seconds = max(deadline - time.monotonic(), 0)
    return seconds if seconds < threading.TIMEOUT_MAX else None


def _too_late() -> ServingError:
    return ServingError(Code.DEADLINE_EXCEEDED, "the time for the answer was over before it was computed")
