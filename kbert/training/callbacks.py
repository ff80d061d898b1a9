"""What a run does beside training: show progress on stderr, and keep what going on later needs."""

from __future__ import annotations

import csv
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy
from tqdm import tqdm

from kbert.errors import InputError
from kbert.files import new_folder, read_json, write_json
from kbert.training.replicas import inner_optimizer


class ProgressBar(keras.callbacks.Callback):
    """One bar on stderr over all steps of a run (the model's `total_steps`), with the running loss and metrics."""

    def __init__(self, initial_step: int = 0):
        super().__init__()
        self.initial_step = initial_step
        self._bar: Any = None

    def on_train_begin(self, logs=None):
        if self._bar is None:
            self._bar = tqdm(total=self.model.total_steps, initial=self.initial_step, unit="step", file=sys.stderr)

    def on_train_batch_end(self, batch, logs=None):
        self._bar.update()
        self._bar.set_postfix(_rounded(logs), refresh=False)

    def on_epoch_end(self, epoch, logs=None):
        values = "  ".join(f"{name} {value}" for name, value in _rounded(logs).items())
        tqdm.write(f"epoch {epoch + 1}: {values}", file=sys.stderr)

    def close(self) -> None:
        """Draw the bar for the last time."""
        if self._bar is not None:
            self._bar.close()


class EvaluationBar(keras.callbacks.Callback):
    """A bar on stderr over the batches of an evaluation, where it takes longer than two seconds."""

    def on_test_begin(self, logs=None):
        self._bar = tqdm(desc="evaluating", unit="batch", file=sys.stderr, delay=2, leave=False)

    def on_test_batch_end(self, batch, logs=None):
        self._bar.update()

    def on_test_end(self, logs=None):
        self._bar.close()


class FiniteLoss(keras.callbacks.Callback):
    """Stops a run that has diverged, before its weights are saved over good ones."""

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise InputError("the loss is no longer a finite number: the run has diverged; lower --learning-rate")


class Resuming(keras.callbacks.Callback):
    """Keeps the whole state of a run in a folder, and takes it up again.

    The state is every variable of the model (weights, random seeds), of its optimizer and of its metrics, the step,
    and the history so far. With data whose order follows from seed and step, a run that was stopped and taken up
    again ends as one that was not.

    Args:
        folder: `folder/step-N` is the newest state; older ones are removed once it is complete.
        every_steps: optimizer steps between two states, besides the one at the end of each epoch.
        writes: whether this process writes the states; one of several machines does.
    """

    def __init__(self, folder: Path, every_steps: int, writes: bool = True):
        super().__init__()
        self.folder, self.every_steps, self.writes = folder, every_steps, writes
        self.history: list[dict[str, float]] = []
        self.step = 0  # optimizer steps done
        self._metrics: dict[str, np.ndarray] = {}

    def find(self) -> Path | None:
        """The newest complete state."""
        states = self.folder.glob("step-*/state.json")
        return max((path.parent for path in states), key=_step_number, default=None)

    def restore(self, model: keras.Model) -> None:
        """Take up the newest state, if there is one, into a compiled model of the same make."""
        state = self.find()
        if state is None:
            return
        try:
            arrays = safetensors.numpy.load_file(state / "variables.safetensors")
            content = read_json(state / "state.json")
            self.history, self.step = content["history"], content["step"]
            _assign(_variables(model), arrays)
        except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{state} does not fit this run or is damaged ({error}): remove {self.folder} to start again"
            ) from None
        self._metrics = {name: array for name, array in arrays.items() if name.startswith("metrics/")}

    def on_train_batch_end(self, batch, logs=None):
        # An epoch that goes on goes on with its sums. Keras makes the metrics' variables in the first step only, and
        # every one of them is a sum over examples.
        for name, variable in _metric_variables(self.model).items() if self._metrics else ():
            variable.assign(variable + self._metrics[name])
        self._metrics = {}
        self.step += 1
        ends_epoch = batch + 1 == self.params["steps"]
        if self.every_steps and self.step % self.every_steps == 0 and not ends_epoch:
            self._save(self.model, metrics=True)

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "step": self.step, **{name: float(value) for name, value in (logs or {}).items()}}
        self.history.append(row)
        self._save(self.model, metrics=False)

    def _save(self, model: keras.Model, metrics: bool) -> None:
        target = self.folder / f"step-{self.step}"
        variables = _variables(model) | (_metric_variables(model) if metrics else {})
        # On every machine: reading a metric sums over all of them.
        arrays = {name: np.asarray(variable.value.numpy()) for name, variable in variables.items()}
        if not self.writes:
            return
        with new_folder(target) as partial:
            safetensors.numpy.save_file(arrays, partial / "variables.safetensors")
            write_json(partial / "state.json", {"step": self.step, "history": self.history})
        for old in self.folder.glob("step-*"):
            if old != target:
                shutil.rmtree(old)


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Write one row per epoch as CSV."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable that the rest of a run depends on, by a name that does not change from process to process."""
    own = [v for v in model.variables if not any(v is m for m in model.metrics_variables)]
    named = {f"model/{i}": variable for i, variable in enumerate(own)}
    optimizer = inner_optimizer(model.optimizer)
    named |= {f"optimizer/{i}": variable for i, variable in enumerate(optimizer.variables)}
    scaling = model.optimizer.variables[: -len(optimizer.variables)]  # of the loss, in mixed_float16
    return named | {f"loss_scale/{i}": variable for i, variable in enumerate(scaling)}


def _metric_variables(model: keras.Model) -> dict[str, keras.Variable]:
    return {f"metrics/{i}": variable for i, variable in enumerate(model.metrics_variables)}


def _assign(variables: dict[str, keras.Variable], arrays: dict[str, np.ndarray]) -> None:
    for name, variable in variables.items():
        if name not in arrays and name.startswith("loss_scale/"):
            continue  # the run began on devices that need none
        if tuple(variable.shape) != arrays[name].shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, the model has {tuple(variable.shape)}")
        variable.assign(arrays[name])


def _step_number(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _rounded(logs: dict[str, float] | None) -> dict[str, str]:
    return {name: f"{float(value):.4f}" for name, value in (logs or {}).items()}
