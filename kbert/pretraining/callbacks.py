"""What a pretraining run does beside training: say how far it is, keep its state, and stop when it is told to."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import keras

from kbert.files import replaced_files
from kbert.pretraining.batches import Position, PretrainingData
from kbert.training import strategies
from kbert.training.callbacks import ProgressBar, Resuming, write_history
from kbert.training.replicas import inner_optimizer
from kbert.training.run_folder import room_for

_AGREED_STEPS = 10  # several machines ask each other whether to stop every so many steps: it costs a round trip
_RATE_SECONDS = 30  # over which the speed on the bar is averaged


class PretrainingState(Resuming):
    """Keeps the whole state of a run, and its history in OUT/history.csv while it goes on.

    It comes before the callbacks that ask it where the run is.

    Args:
        out: folder of the run.
        data: knows which step sees what.
        every_steps: as in `Resuming`; so are `writes` and `keep`.
    """

    def __init__(self, out: Path, data: PretrainingData, every_steps: int, writes: bool, keep: int):
        super().__init__(out / "checkpoints", every_steps, writes, keep)
        self.out, self.data = out, data
        self.position = Position()

    def on_train_batch_end(self, batch, logs=None):
        self.position = self.data.position(self.step + 1)
        super().on_train_batch_end(batch, logs)

    def content(self):
        return super().content() | {"position": self.position._asdict()}

    def take_content(self, content):
        super().take_content(content)
        self.position = Position(**content["position"])

    def row(self, epoch, logs):
        position, optimizer = self.position, inner_optimizer(self.model.optimizer)
        return {
            "step": self.step,
            "epoch": position.epoch + 1,
            "length": position.length,
            "tokens": position.tokens,
            "learning_rate": float(optimizer.learning_rate),
            **logs,
        }

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self.writes:
            target = self.out / "history.csv"
            with room_for(target), replaced_files(self.out, last=target.name) as partial:
                write_history(partial / target.name, self.history)


class TokenBar(ProgressBar):
    """A bar over the steps of the run, with the time left and the tokens a second, padding not counted."""

    def __init__(self, state: PretrainingState):
        super().__init__(state.step)
        self.state = state
        self._marks: list[tuple[float, int]] = []  # seconds, and tokens done by then

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        self._marks.append((now, self.state.position.tokens))
        while now - self._marks[0][0] > _RATE_SECONDS and len(self._marks) > 2:
            del self._marks[0]
        super().on_train_batch_end(batch, logs)

    def on_test_end(self, logs=None):
        self._marks.clear()  # the time of an evaluation is none of training

    def figures(self, logs):
        (start, before), (end, after) = (self._marks or [(0.0, 0)])[0], (self._marks or [(0.0, 0)])[-1]
        rate = {"tokens/s": f"{(after - before) / (end - start):.0f}"} if end > start else {}
        return super().figures(logs) | rate

    def title(self, epoch):
        return f"step {self.state.step}"


class Stopped(Exception):
    """The run was told to stop, and has written its state."""


class Stopping(keras.callbacks.Callback):
    """Ends a run that is sent SIGTERM or SIGINT, once its state is written; it comes after `Resuming`.

    A second SIGINT ends it at once, as it ends any program.

    Args:
        resuming: writes the state.
        last_step: of the run, after which there is nothing to stop.
    """

    def __init__(self, resuming: Resuming, last_step: int):
        super().__init__()
        self.resuming, self.last_step = resuming, last_step
        self.asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Signals are heard inside; only the main thread can hear them."""
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_batch_end(self, batch, logs=None):
        # The last step of a round ends in an evaluation, whose row the history would lack.
        if batch + 1 != self.params["steps"] and self._told():
            if self.resuming.saved_step != self.resuming.step:
                self.resuming.save()
            raise Stopped

    def on_epoch_end(self, epoch, logs=None):
        if self.resuming.step < self.last_step and self._told(always=True):
            raise Stopped

    def _told(self, always: bool = False) -> bool:
        """Whether this machine or any other has been told to stop."""
        strategy = self.model.distribute_strategy
        if strategy.cluster_resolver is None:
            return self.asked
        if not always and self.resuming.step % _AGREED_STEPS:
            return False
        return strategies.any_machine(strategy, self.asked)
