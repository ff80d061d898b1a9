"""Learning rates by layer, and frozen layers, in a BERT."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from training import train_on

from kbert.errors import InputError
from kbert.training.layerwise import freeze, rate_factors
from kbert.training.optimizers import adamw

TEXTS, CLASSES, _ = train_on.examples()


def model_and_layers():
    model = train_on.classifier(tf.distribute.get_strategy())
    return model, [model.encoder.embeddings, *model.encoder.blocks]


def part_of(path):
    return next(part for part in ("embeddings/", "layer_0", "layer_1", "pooler", "classifier") if part in path)


def changes(model, before):
    """By how much each part of the model has changed at most."""
    found = {}
    for variable, old in zip(model.weights, before, strict=True):
        part = part_of(variable.path)
        found[part] = max(found.get(part, 0), abs(variable.numpy() - old).max())
    return found


def test_lower_layers_learn_more_slowly():
    """Adam's first step is as long as the learning rate, whatever the gradient."""
    model, layers = model_and_layers()
    factors = rate_factors(layers, 0.5)
    assert {part_of(path): factor for path, factor in factors.items()} == {
        "embeddings/": 0.125,
        "layer_0": 0.25,
        "layer_1": 0.5,
    }
    variables = model.trainable_variables
    model.compile(adamw(variables, 0.01, weight_decay=0.0, clip_norm=1e9, rate_factors=factors))
    before = model.get_weights()
    model.fit(TEXTS, CLASSES, batch_size=49, verbose=0)
    expected = {"embeddings/": 0.00125, "layer_0": 0.0025, "layer_1": 0.005, "pooler": 0.01, "classifier": 0.01}
    assert changes(model, before) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("count", "frozen"), [(0, set()), (1, {"embeddings/"}), (2, {"embeddings/", "layer_0"})])
def test_frozen_layers_stay_as_they_are(count, frozen):
    model, layers = model_and_layers()
    freeze(layers, count)
    model.compile(keras.optimizers.SGD(0.1))
    before = model.get_weights()
    model.fit(TEXTS, CLASSES, batch_size=49, verbose=0)
    assert {part for part, change in changes(model, before).items() if change == 0} == frozen
    assert np.isfinite(model.get_weights()[0]).all()


@pytest.mark.parametrize("decay", [0.0, 1.1])
def test_a_decay_that_is_none(decay):
    with pytest.raises(InputError, match="layer-wise decay must be more than 0 and at most 1"):
        rate_factors([], decay)


def test_more_layers_than_there_are():
    _, layers = model_and_layers()
    with pytest.raises(InputError, match="layers to freeze must be 0 to 3, the embeddings and the blocks. Received: 4"):
        freeze(layers, 4)
