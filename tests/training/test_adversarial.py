"""FGM and R-Drop against their formulas written out."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from training import train_on

from kbert.errors import InputError
from kbert.training import steps
from kbert.training.adversarial import FGM, RDrop, softmax_divergence

TEXTS, CLASSES, _ = train_on.examples()
TEXTS, CLASSES = TEXTS[:7], CLASSES[:7]
WEIGHTS = np.linspace(0.5, 2, 7, dtype="float32")


def compiled(**changes):
    """Gradient descent at rate 1: what a step subtracts from the weights are the gradients."""
    model = train_on.classifier(tf.distribute.get_strategy(), **changes)
    model.compile(keras.optimizers.SGD(1.0))
    return model


def step(model, parts=1, **recipe):
    """What one training step, in a graph, subtracts from each weight; and the loss it reports."""
    data = (model.features(TEXTS), tf.constant(CLASSES), tf.constant(WEIGHTS))
    before = [v.numpy() for v in model.trainable_variables]
    logs = tf.function(lambda: steps.train_step(model, data, parts, **recipe))()
    return [b - v.numpy() for b, v in zip(before, model.trainable_variables, strict=True)], float(logs["loss"])


def mean_loss(losses):
    return tf.reduce_sum(losses * WEIGHTS) / WEIGHTS.sum()


def cross_entropy(logits):
    return -tf.gather(tf.nn.log_softmax(logits), CLASSES, batch_dims=1)


def dense_gradients(tape, loss, variables):
    return [0.0 if g is None else np.array(tf.convert_to_tensor(g)) for g in tape.gradient(loss, variables)]


def assert_close(got, expected):
    assert len(got) == len(expected)
    for left, right in zip(got, expected, strict=True):
        np.testing.assert_allclose(left, np.broadcast_to(right, left.shape), atol=3e-6)


# === FGM ===


@pytest.mark.parametrize("parts", [1, 3])
def test_fgm_adds_the_gradients_where_the_embeddings_are_moved_to(parts):
    model = compiled()
    table, variables = model.encoder.embeddings.word.embeddings, model.trainable_variables
    before, expected, losses = table.numpy(), [0.0] * len(variables), []
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = mean_loss(cross_entropy(model(model.features(TEXTS), training=True)))
        gradients = dense_gradients(tape, loss, variables)
        expected = [e + g for e, g in zip(expected, gradients, strict=True)]
        losses.append(float(loss))
        gradient = gradients[[v is table for v in variables].index(True)]
        table.assign(before + 0.7 * gradient / np.sqrt((gradient**2).sum()))
    table.assign(before)
    assert losses[1] > losses[0] + 0.1, "the move is one that the loss notices"
    got, loss = step(model, parts, gradients=FGM(table, 0.7))
    assert_close(got, expected)
    assert loss == pytest.approx(losses[0], abs=1e-6)


def test_fgm_counts_an_example_once():
    model = compiled()
    step(model, gradients=FGM(model.encoder.embeddings.word.embeddings))
    assert next(m for m in model.metrics if m.name == "loss").count.numpy() == WEIGHTS.sum()


def test_fgm_without_a_gradient_moves_nothing():
    """Where every example is to be ignored."""
    model = compiled()
    data = (model.features(TEXTS), CLASSES, np.zeros(7, "float32"))
    before = model.get_weights()
    steps.train_step(model, data, gradients=FGM(model.encoder.embeddings.word.embeddings))
    for left, right in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(left, right)


def test_fgm_needs_embeddings_that_are_trained():
    model = compiled()
    model.encoder.embeddings.trainable = False
    with pytest.raises(InputError, match="FGM moves the word embeddings, which are frozen here"):
        steps.train_step(
            model, (model.features(TEXTS), CLASSES), gradients=FGM(model.encoder.embeddings.word.embeddings)
        )


# === R-Drop ===


@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_r_drop_follows_the_formula(alpha):
    model = compiled(dropout_rate=0.3)
    seeds = [v for v in model.variables if v.name == "seed_generator_state"]
    states = [v.numpy() for v in seeds]
    with tf.GradientTape() as tape:
        features = model.features(TEXTS)
        logits = [model(features, training=True) for _ in range(2)]
        p, q = (tf.nn.softmax(one) for one in logits)
        divergence = tf.reduce_sum(p * tf.math.log(p / q), 1) + tf.reduce_sum(q * tf.math.log(q / p), 1)
        nll = cross_entropy(logits[0]) + cross_entropy(logits[1])
        expected = mean_loss((nll + alpha * divergence / 2) / 2)
    gradients = dense_gradients(tape, expected, model.trainable_variables)
    assert float(tf.reduce_min(divergence)) > 1e-3, "both passes drop something else"
    for variable, state in zip(seeds, states, strict=True):
        variable.assign(state)
    got, loss = step(model, losses=RDrop(alpha))
    assert_close(got, gradients)
    assert loss == pytest.approx(float(expected), abs=1e-6)


def test_r_drop_without_dropout_is_the_usual_loss():
    assert_close(step(compiled(), losses=RDrop(3.0))[0], step(compiled())[0])


def test_the_divergence_has_the_shape_of_the_items():
    logits = np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype("float32")
    p, q = (np.exp(one) / np.exp(one).sum(-1, keepdims=True) for one in logits.astype("float64"))
    expected = (p * np.log(p / q) + q * np.log(q / p)).sum(-1)
    np.testing.assert_allclose(softmax_divergence(*logits), expected, rtol=1e-4)


# === Both ===


def test_both_work_together():
    model = compiled()
    table = model.encoder.embeddings.word.embeddings
    both = step(model, losses=RDrop(), gradients=FGM(table))[0]
    model = compiled()
    assert_close(both, step(model, gradients=FGM(model.encoder.embeddings.word.embeddings))[0])


@pytest.mark.parametrize(("make", "name"), [(lambda: FGM(None, 0.0), "epsilon"), (lambda: RDrop(-1.0), "alpha")])
def test_sizes_that_are_none(make, name):
    with pytest.raises(InputError, match=f"{name} must be more than 0"):
        make()
