"""The optimizer that BERT is fine-tuned with."""

from __future__ import annotations

from collections.abc import Iterable

import keras
from keras import ops

NOT_DECAYED = ("bias", "gamma", "beta")
"""Last parts of the paths of weights that weight decay leaves alone (Devlin et al. 2018, appendix A.2)."""


@keras.saving.register_keras_serializable("kbert")
class LinearWarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly from 0 to its peak, then falls linearly to 0.

    Args:
        peak: float, the learning rate at the end of the warm-up.
        total_steps: int, optimizer steps of the whole run.
        warmup_steps: int, optimizer steps of the rise.
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int):
        super().__init__()
        self.peak, self.total_steps, self.warmup_steps = peak, total_steps, warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = step / max(self.warmup_steps, 1)
        fall = (self.total_steps - step) / max(self.total_steps - self.warmup_steps, 1)
        return self.peak * ops.clip(ops.minimum(rise, fall) if self.warmup_steps else fall, 0.0, 1.0)

    def get_config(self):
        return {"peak": self.peak, "total_steps": self.total_steps, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable("kbert")
class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW for gradients that the training step has summed over the replicas of a strategy.

    Keras' own sums them inside, after it has clipped what each replica has; this one clips the sum.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


def adamw(
    variables: Iterable[keras.Variable],
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    weight_decay: float = 0.01,
    clip_norm: float = 1.0,
) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019) as BERT is fine-tuned with it.

    Args:
        variables: the weights to train; biases and layer norms among them are not decayed.
        learning_rate: a float or a schedule over optimizer steps.
        weight_decay: decoupled decay, a fraction of the learning rate per step.
        clip_norm: largest norm of all gradients together.
    """
    optimizer = AdamW(learning_rate, weight_decay=weight_decay, epsilon=1e-8, global_clipnorm=clip_norm)
    variables = list(variables)
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if v.path.endswith(NOT_DECAYED)])
    optimizer.build(variables)
    return optimizer
