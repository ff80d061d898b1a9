"""Metrics of final answers in the course of a run, and the weights of its best epoch."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import safetensors.numpy

from kbert.errors import InputError
from kbert.files import new_folder, read_json, write_json
from kbert.training import strategies
from kbert.training.callbacks import assign
from kbert.training.run_folder import room_for

LOWER_IS_BETTER = ("loss", "error", "perplexity")
"""Last parts of the names of metrics that fall as a model gets better; all others rise."""


class AnswerMetrics(keras.callbacks.Callback):
    """Adds metrics that `score` computes after each epoch to what the epoch reports, as `val_<name>`.

    Callbacks that come after this one see them, and so does Keras' History.

    Args:
        score: gives metrics by name, from the model as it is then.
    """

    def __init__(self, score: Callable[[], Mapping[str, float]]):
        super().__init__()
        self.score = score

    def on_epoch_end(self, epoch, logs=None):
        scores = self.score()
        # Machines compute alone, and must not part over the last digit of a metric.
        values = strategies.of_first_machine(self.model.distribute_strategy, list(map(float, scores.values())))
        # Keras hands one dict to all callbacks, in their order; its own stands last.
        logs.update({f"val_{name}": value for name, value in zip(scores, values, strict=True)})


class BestEpoch(keras.callbacks.Callback):
    """Keeps the weights of the best epoch in a folder, and ends a run that no longer gets better.

    It comes after the callbacks that give the metric and before `Resuming`: then a run that is stopped at any moment
    and taken up again has the same best epoch as one that was not.

    Args:
        folder: `folder/best-N` holds the weights after epoch N; an older one is removed once it is complete.
        metric: name of a metric that the epochs report, such as "val_accuracy". Of equal ones the first is the best.
        patience: epochs without a better one after which the run ends; None: it never ends early.
        writes: whether this process writes the weights; one of several machines does.

    Raises:
        InputError: `patience` is less than 1, or the folder is damaged.
    """

    def __init__(self, folder: Path, metric: str, patience: int | None = None, writes: bool = True):
        super().__init__()
        if patience is not None and patience < 1:
            raise InputError(f"patience must be at least 1 epoch. Received: {patience}")
        self.folder, self.metric, self.patience, self.writes = folder, metric, patience, writes
        self.epoch, self.value = 0, math.nan  # of the best epoch, counted from 1; 0 while there is none
        states = [read_json(path) for path in folder.glob("best-*/state.json")]
        if states:
            newest = max(states, key=lambda state: state["epoch"])
            self.epoch, self.value = newest["epoch"], newest["value"]

    def ends(self, epochs: int) -> bool:
        """Whether a run that has done so many epochs ends with them."""
        return bool(self.patience and self.epoch and epochs - self.epoch >= self.patience)

    def restore(self, model: keras.Model) -> None:
        """Give the model the weights of the best epoch; every machine calls it, once the run has ended.

        Without a best epoch, as when the metric never was a number, the model stays as it is.
        """
        # The other machines wait here until the one that writes has written.
        if not strategies.agree(model.distribute_strategy, str(self.epoch)):
            raise InputError(f"the machines of TF_CONFIG must share one folder {self.folder}: they differ in it")
        if not self.epoch:
            return
        path = self._target / "weights.safetensors"
        try:
            assign(_weights(model), safetensors.numpy.load_file(path))
        except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{path} does not fit this run or is damaged ({error}): remove {self.folder} to start again"
            ) from None

    def on_epoch_end(self, epoch, logs=None):
        if self.metric not in (logs or {}):
            raise InputError(
                f"there is no metric {self.metric!r} to tell the best epoch by (--best-metric): there are "
                f"{', '.join(dict.fromkeys(name.removeprefix('val_') for name in logs))}"
            )
        value = float(logs[self.metric])
        # The best epoch itself comes again where the run was stopped before `Resuming` had kept it.
        if self._is_better(value) and epoch + 1 != self.epoch:
            self.epoch, self.value = epoch + 1, value
            self._save()
        if self.ends(epoch + 1):
            self.model.stop_training = True

    @property
    def _target(self) -> Path:
        return self.folder / f"best-{self.epoch}"

    def _is_better(self, value: float) -> bool:
        if math.isnan(value) or not self.epoch:
            return not math.isnan(value)
        return value < self.value if self.metric.endswith(LOWER_IS_BETTER) else value > self.value

    def _save(self) -> None:
        arrays = {name: np.asarray(variable.value.numpy()) for name, variable in _weights(self.model).items()}
        if not self.writes:
            return
        with room_for(self._target), new_folder(self._target) as partial:
            safetensors.numpy.save_file(arrays, partial / "weights.safetensors")
            write_json(partial / "state.json", {"epoch": self.epoch, "value": self.value})
        for old in self.folder.glob("best-*"):
            if old != self._target:
                shutil.rmtree(old)


def _weights(model: keras.Model) -> dict[str, keras.Variable]:
    return {f"model/{i}": variable for i, variable in enumerate(model.weights)}
