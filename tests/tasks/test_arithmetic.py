"""Heads that look at tokens train in 16 bits, and through XLA, as they do in float32 without it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import kbert
from kbert.training.arithmetic import arithmetic_for
from kbert.training.strategies import strategy_for

TEXTS = ["good film", "the plot was bad , not fine", "very dull", "我爱电影 good film"]
ENTITIES = [[(5, 9, "THING")], [(4, 8, "THING")], [], [(2, 4, "THING")]]
ANSWERS = [[("film", 5)], [("plot", 4)], [("very", 0)], [("电影", 2)]]


def tagger(folder, **options):
    model = kbert.BertTokenClassifier.from_preset(
        folder, ["O", "B-THING", "I-THING"], head="bilstm-crf", max_length=16, **options
    )
    return model, (TEXTS, ENTITIES)


def answerer(folder, **options):
    model = kbert.BertQuestionAnswerer.from_preset(folder, max_length=16, **options)
    return model, ((["film"] * 4, TEXTS), ANSWERS)


@pytest.mark.parametrize("make", [tagger, answerer])
def test_the_losses_are_those_of_float32(steady_folder, make):
    losses = []
    for precision, xla in (("float32", "off"), ("mixed_float16", "off"), ("mixed_bfloat16", "on")):
        arithmetic = arithmetic_for(strategy_for("cpu"), precision, xla)
        keras.utils.set_random_seed(1)
        with arithmetic.scope():
            model, (x, y) = make(str(steady_folder), skip_padding=not arithmetic.jit_compile)
        model.compile(keras.optimizers.SGD(0.02), jit_compile=arithmetic.jit_compile)
        losses.append(model.fit(x, y, batch_size=4, epochs=5, verbose=0).history["loss"])
    assert losses[0][-1] < 0.9 * losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.002)
    np.testing.assert_allclose(losses[2], losses[0], rtol=0.02)
