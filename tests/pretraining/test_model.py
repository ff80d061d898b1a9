"""The pretraining model: its loss and metrics by hand, its two layouts against each other, the folders it writes."""

from __future__ import annotations

import json
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.checkpoints import huggingface
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.config import FillMaskConfig, TokenizerConfig
from kbert.errors import InputError
from kbert.pretraining.model import PretrainingModel
from kbert.training.optimizers import adamw

B, T = 5, 7
LENGTHS = np.array([7, 3, 6, 5, 7])


@pytest.fixture
def fresh(tiny_config, tiny_vocabulary):
    return Checkpoint(tiny_config, TokenizerConfig(), tiny_vocabulary, {})


def made(checkpoint, pairs="none", **kwargs):
    keras.utils.set_random_seed(2)
    return PretrainingModel.from_checkpoint(checkpoint, pairs, **kwargs)


@pytest.fixture
def batch(tiny_config):
    """Five rows, one of them without a token to guess, one with four."""
    random = np.random.default_rng(3)
    ids = random.integers(5, 30, (B, T)).astype("int32")
    guessed = np.zeros((B, T), "int32")
    for row, place in [(0, 1), (0, 5), (1, 1), (3, 2), (4, 1), (4, 2), (4, 4), (4, 6)]:
        guessed[row, place] = 1
    x = {
        "token_ids": np.where(guessed, 4, ids),
        "segment_ids": random.integers(0, 2, (B, T)).astype("int32"),
        "padding_mask": (np.arange(T) < LENGTHS[:, None]).astype("int32"),
        "guessed": guessed,
    }
    return x, {"tokens": np.where(guessed, ids, -1), "pair_label": np.array([0, 1, 1, 0, 1], "int32")}


def tensors(structure):
    return tf.nest.map_structure(tf.constant, structure)


def loss_by_hand(logits, labels):
    logits = np.float64(logits)
    return np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(labels)), labels]


@pytest.mark.parametrize("pairs", ["none", "nsp"])
def test_loss_and_metrics_are_means_over_tokens_and_over_pairs(fresh, batch, pairs):
    model = made(fresh, pairs)
    model.compile(adamw(model.trainable_variables, 0.0))
    x, y = tensors(batch)
    found = model.evaluate(tf.data.Dataset.from_tensors((x, y)), verbose=0, return_dict=True)
    encoded = model.encoder(x)
    places = np.nonzero(batch[0]["guessed"])
    logits = model.head(encoded["sequence_output"], model.encoder.embeddings.word.embeddings).numpy()[places]
    labels = batch[1]["tokens"][places]
    token_loss = loss_by_hand(logits, labels).mean()
    expected = {"loss": token_loss, "perplexity": np.exp(token_loss)}
    expected["masked_lm_accuracy"] = (logits.argmax(-1) == labels).mean()
    if pairs == "nsp":
        logits, labels = model.pair_head(encoded["pooled_output"]).numpy(), batch[1]["pair_label"]
        pair_loss = loss_by_hand(logits, labels).mean()
        expected |= {"loss": token_loss + pair_loss, "masked_lm_loss": token_loss, "pair_loss": pair_loss}
        expected["pair_accuracy"] = (logits.argmax(-1) == labels).mean()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_a_batch_without_guesses_moves_nothing_and_costs_nothing(fresh, batch):
    model = made(fresh)
    model.compile(adamw(model.trainable_variables, 0.1, weight_decay=0.0))
    x, y = tensors(batch)
    x, y = x | {"guessed": tf.zeros((B, T), tf.int32)}, {"tokens": tf.fill((B, T), -1)}
    before = [v.numpy() for v in model.trainable_variables]
    history = model.fit(tf.data.Dataset.from_tensors((x, y)), shuffle=False, verbose=0).history
    assert history["loss"] == [0.0]
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "XLA"])
def test_padded_rows_train_as_real_tokens(fresh, batch, compiled):
    without_dropout = fresh.config.to_dict() | {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}
    checkpoint = Checkpoint(kbert.BertConfig.from_dict(without_dropout), fresh.tokenizer, fresh.vocabulary, {})
    logs, weights = [], []
    for skip_padding in (True, False):
        model = made(checkpoint, "sop", skip_padding=skip_padding, mask_rate=0.3)
        model.compile(adamw(model.trainable_variables, 0.01), jit_compile=compiled and not skip_padding)
        dataset = tf.data.Dataset.from_tensors(tensors(batch)).repeat(3)
        logs.append(model.fit(dataset, shuffle=False, verbose=0).history)
        weights.append(model.checkpoint().tensors)
    assert logs[0].keys() == logs[1].keys()
    for name in logs[0]:
        assert logs[1][name] == pytest.approx(logs[0][name], rel=1e-4), name
    for name, value in weights[0].items():
        if not name.endswith("query_key_value/bias"):  # of keys, whose gradient is rounding
            np.testing.assert_allclose(weights[1][name], value, atol=1e-4, err_msg=name)


def test_refusals(fresh):
    with pytest.raises(InputError, match="`pairs` must be one of none, nsp, sop. Received: 'yes'"):
        made(fresh, "yes")
    model = made(fresh)
    with pytest.raises(InputError, match="XLA needs rows of one length"):
        model.compile(adamw(model.trainable_variables, 0.0), jit_compile=True)


# === Folders ===


@pytest.mark.parametrize(("pairs", "architecture"), [("none", "BertForMaskedLM"), ("nsp", "BertForPreTraining")])
def test_a_folder_fills_masks_and_is_trained_further(fresh, tmp_path, caplog, pairs, architecture):
    task = FillMaskConfig(top_k=3, max_length=21)
    model = made(Checkpoint(fresh.config, fresh.tokenizer, fresh.vocabulary, {}, task), pairs)
    model.head.bias.assign(np.linspace(0, 1, fresh.config.vocabulary_size))
    huggingface.write(tmp_path, model.checkpoint())
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [architecture]
    opened = kbert.BertMaskedLM.from_preset(str(tmp_path))
    assert opened.task == task
    features = opened.features(["the film was [MASK]"])
    x = features | {"guessed": tf.cast(features["token_ids"] == 4, tf.int32)}
    scores = tf.nn.softmax(model(x)["tokens"]).numpy()[0]
    best = opened.predict(["the film was [MASK]"])
    np.testing.assert_allclose(best["score"][0, 0], np.sort(scores)[::-1][:3], rtol=1e-5)
    with caplog.at_level(logging.INFO):
        further = PretrainingModel.from_checkpoint(huggingface.read(tmp_path), pairs)
    assert not caplog.records
    saved, again = model.checkpoint().tensors, further.checkpoint().tensors
    unsaved = {"pooler/kernel", "pooler/bias"} if pairs == "none" else set()
    for name in saved.keys() - unsaved:
        np.testing.assert_array_equal(again[name], saved[name], err_msg=name)


def test_an_encoder_gets_fresh_heads_and_says_so(tiny_folder, caplog):
    checkpoint = huggingface.read(tiny_folder)
    with caplog.at_level(logging.INFO):
        model = PretrainingModel.from_checkpoint(checkpoint, "nsp")
    (record,) = caplog.records
    assert "masked_lm_dense/kernel" in record.getMessage()
    assert "next_sentence/bias" in record.getMessage()
    words = model.encoder.embeddings.word.embeddings
    np.testing.assert_array_equal(words, checkpoint.tensors["embeddings/word/embeddings"])
