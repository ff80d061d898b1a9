"""The CRF against brute force: every label sequence written out and scored in double precision."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.modeling.crf import CRF, allowed_only, viterbi

B, T, C = 7, 5, 3
# Whole rows, right padding, gaps of one and of several, a beginning passed over, one position, none.
MASK = np.array(
    [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 1, 0], [1, 0, 0, 1, 1], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0], [0] * 5]
)


@pytest.fixture(scope="module")
def numbers():
    random = np.random.default_rng(5)
    shapes = {"emissions": (B, T, C), "transitions": (C, C), "start": (C,), "end": (C,)}
    return {name: (2 * random.normal(size=shape)).astype("float32") for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def labels():
    return np.where(MASK, np.random.default_rng(6).integers(0, C, (B, T)), -1).astype("int32")


@pytest.fixture
def crf(numbers):
    crf = CRF(C)
    crf.build()
    for name in ("transitions", "start", "end"):
        getattr(crf, name).assign(numbers[name])
    return crf


def sequences(numbers, row, mask=MASK):
    """The picked positions of a row, every sequence of labels there, and the scores."""
    emissions, transitions, start, end = (
        numbers[name].astype("float64") for name in ("emissions", "transitions", "start", "end")
    )
    positions = np.flatnonzero(mask[row])
    paths = np.array(list(itertools.product(range(emissions.shape[-1]), repeat=len(positions))), dtype=int)
    scores = np.array(
        [
            start[path[0]]
            + sum(emissions[row, t, label] for t, label in zip(positions, path, strict=True))
            + sum(transitions[a, b] for a, b in itertools.pairwise(path))
            + end[path[-1]]
            for path in paths
            if len(path)
        ]
    )
    return positions, paths, scores


def probabilities(scores):
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def test_log_likelihood(crf, numbers, labels):
    got = crf.log_likelihood(numbers["emissions"], labels, MASK).numpy()
    assert got.dtype == np.float32
    for row in range(B):
        positions, paths, scores = sequences(numbers, row)
        if not len(positions):
            assert got[row] == 0
            continue
        chosen = np.flatnonzero((paths == labels[row, positions]).all(axis=1))
        np.testing.assert_allclose(got[row], np.log(probabilities(scores)[chosen[0]]), rtol=1e-5)


def test_marginals(crf, numbers):
    got = crf.marginals(numbers["emissions"], MASK).numpy()
    expected = np.zeros((B, T, C))
    for row in range(B):
        positions, paths, scores = sequences(numbers, row)
        for path, probability in zip(paths, probabilities(scores) if len(positions) else [], strict=False):
            expected[row, positions, path] += probability
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_gradients_are_counts_less_expected_counts(crf, numbers, labels):
    weight = np.arange(1, B + 1, dtype="float32")
    emissions = tf.constant(numbers["emissions"])
    with tf.GradientTape() as tape:
        tape.watch(emissions)
        value = tf.reduce_sum(crf.log_likelihood(emissions, labels, MASK) * weight)
    got = tape.gradient(value, [emissions, crf.transitions.value, crf.start.value, crf.end.value])
    expected = [np.zeros((B, T, C)), np.zeros((C, C)), np.zeros(C), np.zeros(C)]
    for row in range(B):
        positions, paths, scores = sequences(numbers, row)
        if not len(positions):
            continue
        shares = [(labels[row, positions], 1.0), *zip(paths, -probabilities(scores), strict=True)]
        for path, share in shares:
            share = share * weight[row]
            expected[0][row, positions, path] += share
            np.add.at(expected[1], (path[:-1], path[1:]), share)
            expected[2][path[0]] += share
            expected[3][path[-1]] += share
    for ours, brute in zip(got, expected, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(ours).numpy(), brute, atol=3e-5)


def test_viterbi(numbers):
    labels, scores = viterbi(numbers["emissions"], MASK, numbers["transitions"], numbers["start"], numbers["end"])
    assert (labels.dtype, scores.dtype) == (tf.int32, tf.float32)
    for row in range(B):
        positions, paths, expected = sequences(numbers, row)
        best = np.zeros(T)
        if len(positions):
            best[positions] = paths[expected.argmax()]
        np.testing.assert_array_equal(labels[row], best)
        np.testing.assert_allclose(scores[row], expected.max(initial=-np.inf) if len(positions) else 0, rtol=1e-5)


def test_viterbi_without_transitions_is_argmax(numbers):
    labels, scores = viterbi(numbers["emissions"], MASK)
    np.testing.assert_array_equal(labels, numbers["emissions"].argmax(-1) * MASK)
    np.testing.assert_allclose(scores, (numbers["emissions"].max(-1) * MASK).sum(1), rtol=1e-5)


def test_of_equal_sequences_the_lowest_labels(numbers):
    labels, _ = viterbi(np.zeros((B, T, C), "float32"), MASK)
    np.testing.assert_array_equal(labels, np.zeros((B, T)))


def test_constraints(numbers):
    """No label follows itself, sequences begin with 0 or 1 and end in 2: the best of the sequences that obey."""
    allowed, allowed_start, allowed_end = ~np.eye(C, dtype=bool), np.arange(C) < 2, np.arange(C) == 2
    labels, scores = viterbi(
        numbers["emissions"],
        MASK,
        allowed_only(numbers["transitions"], allowed),
        allowed_only(0, allowed_start),
        allowed_only(numbers["end"], allowed_end),
    )
    for row in range(B):
        positions, paths, expected = sequences({**numbers, "start": np.zeros(C)}, row)
        if len(positions) < 2:
            continue
        obeys = allowed_start[paths[:, 0]] & allowed_end[paths[:, -1]] & (paths[:, 1:] != paths[:, :-1]).all(axis=1)
        np.testing.assert_array_equal(labels[row, :][MASK[row] == 1], paths[obeys][expected[obeys].argmax()])
        np.testing.assert_allclose(scores[row], expected[obeys].max(), rtol=1e-5)


def test_forbidden_transitions_leave_finite_likelihoods_and_gradients(crf, numbers, labels):
    crf.transitions.assign(allowed_only(numbers["transitions"], ~np.eye(C, dtype=bool)))
    emissions = tf.constant(numbers["emissions"])
    with tf.GradientTape() as tape:
        tape.watch(emissions)
        value = crf.log_likelihood(emissions, np.where(MASK, np.arange(T) % 2, 0), MASK)
    gradients = tape.gradient(value, [emissions, crf.transitions.value])
    assert np.isfinite(value).all()
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)
    repeated = crf.marginals(np.zeros((1, 2, C), "float32"), np.ones((1, 2))).numpy()
    np.testing.assert_allclose(repeated.sum(-1), 1, rtol=1e-5)


def test_mixed_precision_is_float32_inside(numbers, labels):
    crf = CRF(C, dtype=keras.dtype_policies.DTypePolicy("mixed_bfloat16"))
    crf.build()
    assert {weight.dtype for weight in crf.weights} == {"float32"}
    half = tf.cast(numbers["emissions"], tf.bfloat16)
    np.testing.assert_allclose(
        crf.log_likelihood(half, labels, MASK), crf.log_likelihood(tf.cast(half, tf.float32), labels, MASK), rtol=1e-6
    )


@pytest.fixture(scope="module")
def graph():
    """Viterbi, likelihood and marginals in one graph with batch and length open."""
    crf = CRF(4)
    crf.build()
    for weight in crf.weights:
        weight.assign(np.random.default_rng(8).normal(size=weight.shape))

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, 4]), tf.TensorSpec([None, None], tf.int32)], autograph=False
    )
    def function(emissions, mask):
        labels, scores = viterbi(emissions, mask, crf.transitions, crf.start, crf.end)
        likelihood = crf.log_likelihood(emissions, labels, mask)
        return labels, scores, likelihood, tf.gradients(likelihood, emissions)[0], crf.marginals(emissions, mask)

    return function, crf


@pytest.mark.parametrize("shape", [(0, 6), (5, 0), (0, 0)])
def test_nothing_at_all(graph, shape):
    labels, scores, likelihood, gradient, marginals = graph[0](tf.zeros((*shape, 4)), tf.ones(shape, tf.int32))
    assert (labels.shape, gradient.shape, marginals.shape) == (shape, (*shape, 4), (*shape, 4))
    np.testing.assert_array_equal(scores, np.zeros(shape[0]))
    np.testing.assert_array_equal(likelihood, np.zeros(shape[0]))


def test_a_long_row(graph):
    """Precision does not wear off along 5,000 positions: against the same recursions in double precision."""
    function, crf = graph
    random = np.random.default_rng(9)
    emissions, mask = random.normal(size=(1, 5000, 4)).astype("float32"), random.integers(0, 2, (1, 5000))
    labels, score, likelihood, _, marginals = (x.numpy()[0] for x in function(emissions, mask.astype("int32")))
    picked = emissions[0][mask[0] == 1].astype("float64")
    transitions, start, end = (weight.numpy().astype("float64") for weight in crf.weights)
    best, total, pointers = start + picked[0], start + picked[0], []
    forward, backward = [total], [end]
    for row in picked[1:]:
        pointers.append((best[:, None] + transitions).argmax(0))
        best = (best[:, None] + transitions).max(0) + row
        total = np.logaddexp.reduce(total[:, None] + transitions, axis=0) + row
        forward.append(total)
    for row in picked[:0:-1]:
        backward.append(np.logaddexp.reduce(transitions + row + backward[-1], axis=1))
    path = [(best + end).argmax()]
    for pointer in reversed(pointers):
        path.append(pointer[path[-1]])
    partition = np.logaddexp.reduce(total + end)
    np.testing.assert_array_equal(labels[mask[0] == 1], path[::-1])
    np.testing.assert_allclose(score, (best + end).max(), rtol=1e-5)
    np.testing.assert_allclose(likelihood, (best + end).max() - partition, rtol=1e-4)
    expected = np.exp(np.array(forward) + np.array(backward[::-1]) - partition)
    np.testing.assert_allclose(marginals[mask[0] == 1], expected, atol=1e-5)


def test_the_graph_holds_core_ops_only(graph):
    definition = graph[0].get_concrete_function().graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    names = {node.op for node in nodes}
    assert "StatelessWhile" in names
    assert not {name for name in names if ">" in name or name.startswith(("PyFunc", "EagerPyFunc", "Xla", "Cudnn"))}


def test_runs_on_the_jax_backend(crf, numbers, labels, tmp_path):
    pytest.importorskip("jax", reason="the JAX backend needs jax: pip install jax")
    np.savez(tmp_path / "in.npz", labels=labels, mask=MASK, **numbers)
    program = """
import jax, numpy as np
from kbert.modeling.crf import CRF, log_partition, viterbi
x = dict(np.load("in.npz"))
crf = CRF(3)
crf.build()
for name in ("transitions", "start", "end"):
    getattr(crf, name).assign(x[name])
def likelihood(emissions, transitions):
    with __import__("keras").StatelessScope(state_mapping=[(crf.transitions, transitions)]):
        return crf.log_likelihood(emissions, x["labels"], x["mask"]).sum()
value, gradients = jax.jit(jax.value_and_grad(likelihood, (0, 1)))(x["emissions"], x["transitions"])
best, _ = jax.jit(viterbi)(x["emissions"], x["mask"], x["transitions"], x["start"], x["end"])
np.savez("out.npz", value=value, emissions=gradients[0], transitions=gradients[1], best=best)
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    out = np.load(tmp_path / "out.npz")
    emissions = tf.constant(numbers["emissions"])
    with tf.GradientTape() as tape:
        tape.watch(emissions)
        value = tf.reduce_sum(crf.log_likelihood(emissions, labels, MASK))
    gradients = tape.gradient(value, [emissions, crf.transitions.value])
    best, _ = viterbi(emissions, MASK, crf.transitions, crf.start, crf.end)
    np.testing.assert_allclose(out["value"], value, rtol=1e-5)
    np.testing.assert_allclose(out["emissions"], gradients[0], atol=1e-5)
    np.testing.assert_allclose(out["transitions"], tf.convert_to_tensor(gradients[1]), atol=1e-5)
    np.testing.assert_array_equal(out["best"], best)
