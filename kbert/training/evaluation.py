"""Metrics of final answers at the end of every epoch."""

from __future__ import annotations

from collections.abc import Callable

import keras


class AnswerMetrics(keras.callbacks.Callback):
    """Adds `val_NAME` to the logs of an epoch, where History and the callbacks behind this one find them.

    Args:
        score: gives the metrics by name.
    """

    def __init__(self, score: Callable[[], dict[str, float]]):
        super().__init__()
        self.score = score

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in self.score().items()})
