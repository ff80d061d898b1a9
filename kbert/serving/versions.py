"""One version of a model, from its folder to its end: TF Serving's five states."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import numpy as np
import tensorflow as tf

from kbert.serving.apis import APIS
from kbert.serving.batching import Batcher, Joining, Patience, Run
from kbert.serving.calls import Code, ServingError, logger
from kbert.serving.metrics import Metrics
from kbert.serving.models import Model, load_model
from kbert.serving.options import ServerOptions
from kbert.serving.warmup import warm_up


class State(IntEnum):
    """tensorflow.serving.ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class Version:
    """A version and its state; what it holds in memory is gone when it has ended.

    Args:
        name: of the model.
        number: of the version.
        folder: holds its saved_model.pb.
        options: how requests are batched.
        metrics: are told of each batch.
    """

    def __init__(self, name: str, number: int, folder: Path, options: ServerOptions, metrics: Metrics):
        self.name = name
        self.number = number
        self.folder = folder
        self.state = State.START
        self.error_code = 0
        """Why it ended, if not by being replaced: the number of gRPC's status."""
        self.error = ""
        self._options = options
        self._metrics = metrics
        self._loaded: LoadedModel | None = None
        self._leases = 0
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load and warm up; it is then available, or has ended.

        Raises:
            InputError: it does not load.
            ServingError: a warm-up request failed.
        """
        self.state = State.LOADING
        try:
            model = load_model(self.name, self.number, self.folder)
            warm_up(model, self.folder)
            self._loaded = LoadedModel(model, self._options, self._metrics)
        except Exception as error:
            self.state, self.error_code, self.error = State.END, _number_of(error), str(error)
            raise
        self.state = State.AVAILABLE
        logger.info("model %r version %d is available", self.name, self.number)

    @contextmanager
    def lease(self) -> Iterator[LoadedModel]:
        """What answers requests; it stays in memory as long as the block lasts.

        Raises:
            ServingError: NOT_FOUND, if the version is not available.
        """
        with self._lock:
            if self.state is not State.AVAILABLE or self._loaded is None:
                raise ServingError(Code.NOT_FOUND, f"model {self.name!r} version {self.number} is {self.state.name}")
            loaded = self._loaded
            self._leases += 1
        try:
            yield loaded
        finally:
            with self._lock:
                self._leases -= 1
                self._end_if_drained()

    def retire(self) -> None:
        """Give out no more leases, and end when the last one has ended."""
        with self._lock:
            if self.state is State.AVAILABLE:
                self.state = State.UNLOADING
                self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self.state is State.UNLOADING and not self._leases and self._loaded is not None:
            self._loaded.batcher.close()
            self._loaded = None
            self.state = State.END
            logger.info("model %r version %d is unloaded", self.name, self.number)


class LoadedModel:
    """A model in memory, and the queue before it."""

    def __init__(self, model: Model, options: ServerOptions, metrics: Metrics):
        self.model = model
        self._metrics = metrics
        self._joining: Mapping[str, Joining | None] = {name: model.joining(name) for name in model.functions}
        self._api = {name: APIS.get(model.signature(name).method_name, "Predict") for name in model.functions}
        self.batcher = Batcher(model.predict, options, self._batch_done, f"kbert-{model.name}-{model.version}")

    def run(self, patience: Patience) -> Run:
        """Runs a signature of the model, batched with others' requests."""

        def run(signature_name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            self.model.check(signature_name, inputs)
            return self.batcher.ask(signature_name, inputs, self._joining[signature_name], patience)

        return run

    def _batch_done(self, signature_name: str, waits: Sequence[float], rows: int, seconds: float) -> None:
        self._metrics.batch_done(self.model.name, self._api[signature_name], waits, rows, seconds)


def _number_of(error: Exception) -> int:
    if isinstance(error, ServingError):
        return error.code.number
    cause = error.__cause__
    return cause.error_code if isinstance(cause, tf.errors.OpError) else Code.UNKNOWN.number
