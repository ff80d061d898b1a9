"""A recipe made into what a step needs: an optimizer, a loss, and how gradients come about."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras

from kbert.errors import InputError
from kbert.training import steps
from kbert.training.adversarial import FGM, RDrop
from kbert.training.layerwise import rate_factors
from kbert.training.losses import SmoothedCrossentropy
from kbert.training.optimizers import AdamW, LinearWarmupDecay, adamw
from kbert.training.recipe import Recipe


def optimizer_for(model: Any, recipe: Recipe, schedule: LinearWarmupDecay) -> AdamW:
    """AdamW with a rate for each layer.

    Args:
        model: a `kbert.tasks.trainable.Trainable`; so are those below.
        recipe: the rates.
        schedule: of the rate of what stands above the encoder.
    """
    factors = rate_factors(model.encoder.stack(), recipe.layer_decay) | model.head_rates()
    return adamw(model.trainable_variables, schedule, recipe.weight_decay, rate_factors=factors)


def loss_for(model: Any, recipe: Recipe) -> keras.losses.Loss | None:
    """The model's own loss, or one with smoothed labels."""
    if not recipe.label_smoothing:
        return model.default_loss()
    _check_softmax(model, "label_smoothing")
    return SmoothedCrossentropy(recipe.label_smoothing)


def step_for(model: Any, recipe: Recipe) -> Callable[[Any, int], dict[str, Any]]:
    """A training step: of a batch (or a replica's share of it) and the number of parts to compute it in."""
    options: dict[str, Any] = {}
    if recipe.r_drop:
        _check_softmax(model, "r_drop")
        options["losses"] = RDrop(recipe.r_drop)
    if recipe.fgm:
        options["gradients"] = FGM(model.encoder.embeddings.word.embeddings, recipe.fgm)
    return functools.partial(steps.train_step, model, **options)


def _check_softmax(model: Any, option: str) -> None:
    if not model.has_softmax:
        raise InputError(f"{option} is for models that choose one of several classes, which this one does not")
