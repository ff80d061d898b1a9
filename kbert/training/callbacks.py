"""What a run does beside training: show progress on stderr, and keep what going on later needs."""

from __future__ import annotations

import csv
import logging
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
from kbert.training.run_folder import room_for

_log = logging.getLogger(__name__)


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
        self._bar.set_postfix(self.figures(logs or {}), refresh=False)
        self._bar.update()

    def on_epoch_end(self, epoch, logs=None):
        values = "  ".join(f"{name} {value}" for name, value in self.figures(logs or {}).items())
        tqdm.write(f"{self.title(epoch)}: {values}", file=sys.stderr)

    def figures(self, logs: dict[str, float]) -> dict[str, str]:
        """What the bar shows of a step, and its line of an epoch."""
        return {name: f"{float(value):.4f}" for name, value in logs.items()}

    def title(self, epoch: int) -> str:
        """What stands before the line of an epoch."""
        return f"epoch {epoch + 1}"

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
        folder: `folder/step-N` is the state after N steps; older ones than `keep` are removed once it is complete.
        every_steps: optimizer steps between two states, besides the one at the end of each epoch.
        writes: whether this process writes the states; one of several machines does.
        keep: how many states to keep. Where the newest is damaged, an older one is taken up.
    """

    def __init__(self, folder: Path, every_steps: int, writes: bool = True, keep: int = 1):
        super().__init__()
        self.folder, self.every_steps, self.writes, self.keep = folder, every_steps, writes, keep
        self.history: list[dict[str, float]] = []
        self.step = 0  # optimizer steps done
        self.saved_step = 0  # of the newest state
        self._metrics: dict[str, np.ndarray] = {}

    def find(self) -> Path | None:
        """The newest complete state."""
        return next(iter(self._states()), None)

    def _states(self) -> list[Path]:
        """All complete states, the newest first."""
        return sorted((path.parent for path in self.folder.glob("step-*/state.json")), key=_step_number, reverse=True)

    def restore(self, model: keras.Model) -> None:
        """Take up the newest state, if there is one, into a compiled model of the same make.

        Raises:
            InputError: no state that there is can be read, or fits the model.
        """
        for partial in self.folder.glob(".*") if self.writes else ():  # what a run was killed over
            shutil.rmtree(partial)
        states = self._states()
        for state in states:
            try:
                self._take_up(model, state)
                return
            except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
                complaint = f"{state} does not fit this run or is damaged ({error})"
                if state == states[-1]:
                    raise InputError(f"{complaint}: remove {self.folder} to start again") from None
                _log.warning("%s: taking the one before", complaint)

    def _take_up(self, model: keras.Model, state: Path) -> None:
        arrays = safetensors.numpy.load_file(state / "variables.safetensors")
        content = read_json(state / "state.json")
        assign(_variables(model), arrays)
        self.take_content(content)
        self.saved_step = self.step
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
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        self.history.append(self.row(epoch, {name: float(value) for name, value in (logs or {}).items()}))
        self.save(metrics=False)

    def content(self) -> dict[str, Any]:
        """What a state holds beside variables, as JSON."""
        return {"step": self.step, "history": self.history}

    def take_content(self, content: dict[str, Any]) -> None:
        """The inverse of `content`; KeyError for what is missing."""
        self.step, self.history = content["step"], content["history"]

    def row(self, epoch: int, logs: dict[str, float]) -> dict[str, float]:
        """What the history says of an epoch."""
        return {"epoch": epoch + 1, "step": self.step, **logs}

    def save(self, metrics: bool = True) -> None:
        """Write the state as it is now; `metrics`: with those of an epoch that has not ended."""
        target = self.folder / f"step-{self.step}"
        variables = _variables(self.model) | (_metric_variables(self.model) if metrics else {})
        # On every machine: reading a metric sums over all of them.
        arrays = {name: np.asarray(variable.value.numpy()) for name, variable in variables.items()}
        self.saved_step = self.step
        if not self.writes:
            return
        if target.exists():  # a damaged one
            shutil.rmtree(target)
        with room_for(target), new_folder(target) as partial:
            safetensors.numpy.save_file(arrays, partial / "variables.safetensors")
            write_json(partial / "state.json", self.content())
        # A state after the one that was taken up is a damaged one.
        kept = [state for state in self._states() if _step_number(state) <= self.step][: self.keep]
        for old in self.folder.glob("step-*"):
            if old not in kept:
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


def assign(variables: dict[str, keras.Variable], arrays: dict[str, np.ndarray]) -> None:
    """Give variables the arrays of the same names; KeyError for one that is missing, ValueError for another shape."""
    for name, variable in variables.items():
        if name not in arrays and name.startswith("loss_scale/"):
            continue  # the run began on devices that need none
        if tuple(variable.shape) != arrays[name].shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, the model has {tuple(variable.shape)}")
        variable.assign(arrays[name])


def _step_number(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))
