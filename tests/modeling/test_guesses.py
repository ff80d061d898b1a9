"""Which tokens are scored, on TensorFlow and, in fixed shapes, on JAX without TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kbert.modeling.guesses import AllGuesses, FixedGuesses

B, T, D = 3, 128, 5


@pytest.fixture
def guessed():
    """A row of many tokens to guess, one of two and one of none."""
    guessed = np.zeros((B, T), "int32")
    guessed[0, ::2], guessed[1, [3, 90]] = 1, 1
    return guessed


def test_rooms():
    assert [FixedGuesses(0.15).room(length) for length in (1, 16, 128, 512)] == [1, 11, 43, 123]
    assert FixedGuesses(0.5).room(16) == 16


def test_all_guesses_row_by_row_with_their_gradient(guessed):
    values = tf.Variable(np.random.default_rng(0).normal(size=(B, T, D)).astype("float32"))
    with tf.GradientTape() as tape:
        taken = AllGuesses().take(values, tf.constant(guessed))
        loss = tf.reduce_sum(taken**2)
    np.testing.assert_array_equal(taken, values.numpy()[guessed == 1])
    np.testing.assert_allclose(tape.gradient(loss, values), 2 * values.numpy() * guessed[:, :, None])


def test_fixed_guesses_are_the_first_of_a_row(guessed):
    places = np.where(guessed == 1, np.arange(T), -1)
    taken = FixedGuesses(0.15).take(tf.constant(places), tf.constant(guessed)).numpy()
    np.testing.assert_array_equal(taken[0], np.arange(0, 86, 2))
    np.testing.assert_array_equal(taken[1], [3, 90, *[-1] * 41])
    np.testing.assert_array_equal(taken[2], [-1] * 43)


PROGRAM = """
import json, sys
import jax, numpy as np
from kbert.modeling.guesses import FixedGuesses

values, guessed = np.arange(2 * 6 * 3.0).reshape(2, 6, 3), np.array([[0, 1, 0, 0, 1, 0], [0] * 6])
taken = jax.jit(FixedGuesses(0.01).take)(values, guessed)
print(json.dumps({"taken": np.asarray(taken).tolist(), "tensorflow": "tensorflow" in sys.modules}))
"""


def test_fixed_guesses_on_jax():
    pytest.importorskip("jax", reason="the JAX backend needs jax: pip install jax")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | {"KERAS_BACKEND": "jax"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["tensorflow"]
    assert FixedGuesses(0.01).room(6) == 2
    assert found["taken"][0] == [[3.0, 4.0, 5.0], [12.0, 13.0, 14.0]]
