"""Losses that Keras has not in this form."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kbert.errors import InputError


@keras.saving.register_keras_serializable("kbert")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits with class numbers, some of whose weight goes to all classes alike.

    Szegedy et al. 2016, section 7: the target is 1 - `label_smoothing` for the right class, and `label_smoothing` / C
    more for each of the C classes. Equal to `keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=…)`
    on one-hot labels, which this one does not make.

    Args:
        label_smoothing: in [0, 1).
        **kwargs: as in `keras.losses.Loss`.

    Call arguments:
        y_true: class numbers, int [...].
        y_pred: logits [..., C].
    """

    def __init__(self, label_smoothing: float = 0.1, name: str = "smoothed_crossentropy", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing must be in [0, 1). Received: {label_smoothing}")
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """The loss of each item, [...]."""
        hard = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        # The mean over all classes of what the loss would be if each were the right one.
        even = ops.logsumexp(y_pred, axis=-1) - ops.mean(y_pred, axis=-1)
        return (1 - self.label_smoothing) * hard + self.label_smoothing * even

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}
