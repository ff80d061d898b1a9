"""The MiniLM weights give what transformers and PyTorch gave (tests/golden/write_minilm.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.data.readers import read_texts
from kbert.modeling.encoder import named_weights

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def golden():
    return np.load(ROOT / "tests" / "golden" / "minilm.npz")


@pytest.fixture(scope="module")
def texts(golden):
    return read_texts(ROOT / "kbert" / "data" / "demo" / "en.dev.tsv").texts[: len(golden["logits"])]


@pytest.fixture(scope="module", params=[True, False], ids=["real tokens", "padded rows"])
def model(request, minilm_folder, golden):
    model = kbert.BertTextClassifier.from_preset(str(minilm_folder), ["a", "b"], skip_padding=request.param)
    model.head.dense.kernel.assign(golden["head"])
    model.head.dense.bias.assign([0.25, -0.5])
    return model


def test_tokens(model, texts, golden):
    np.testing.assert_array_equal(model.features(texts)["token_ids"], golden["token_ids"])


def test_hidden_states(model, texts, golden):
    features = model.features(texts)
    outputs = model.encoder(features)
    real = features["padding_mask"].numpy()[:, ::3].astype(bool)
    sequence = outputs["sequence_output"].numpy()[:, ::3, ::17]
    np.testing.assert_allclose(sequence[real], golden["sequence_output"][real], atol=1e-5)
    np.testing.assert_allclose(outputs["pooled_output"].numpy()[:, ::5], golden["pooled_output"], atol=1e-5)


def test_loss_and_the_gradient_of_every_weight(model, texts, golden):
    features = model.features(texts)
    with tf.GradientTape() as tape:
        logits = model(features, training=False)
        loss = model.default_loss()(np.arange(len(texts)) % 2, logits)
    np.testing.assert_allclose(logits, golden["logits"], atol=2e-5)
    assert float(loss) == pytest.approx(float(golden["loss"]), rel=1e-5)
    weights = {**named_weights(model.encoder), **model.head_weights()}
    gradients = tape.gradient(loss, [v.value for v in weights.values()])
    assert len(weights) == sum(name.startswith("norm:") for name in golden.files) == 81
    for name, gradient in zip(weights, gradients, strict=True):
        flat = tf.convert_to_tensor(gradient).numpy().ravel()
        expected = golden[f"values:{name}"]
        np.testing.assert_allclose(flat[golden[f"places:{name}"]], expected, atol=1e-4 * np.abs(expected).max())
        assert np.linalg.norm(flat.astype("float64")) == pytest.approx(float(golden[f"norm:{name}"]), rel=1e-4), name
