"""Recipes, and what `compile` and `fit` refuse, on the models of every task."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from tasks.examples import ENTITIES, TAGS, TEXTS

import kbert
from kbert.config import FillMaskConfig
from kbert.errors import InputError


@pytest.mark.parametrize(
    "options", [{"layer_decay": 0.5}, {"frozen_layers": 2}, {"label_smoothing": 0.2}, {"fgm": 1.0}, {"r_drop": 4.0}]
)
def test_every_option_of_a_recipe_changes_what_is_learnt(tiny_folder, options):
    learnt = []
    for given in ({}, options):
        keras.utils.set_random_seed(1)
        model = kbert.BertTokenClassifier.from_preset(str(tiny_folder), TAGS, max_length=16)
        before = model.encoder.embeddings.word.embeddings.numpy()
        model.compile(learning_rate=0.01, **given)
        history = model.fit(TEXTS, ENTITIES, batch_size=4, epochs=2, verbose=0).history
        assert np.isfinite(history["loss"]).all()
        learnt.append(model.head.dense.kernel.numpy())
        moved = not np.array_equal(before, model.encoder.embeddings.word.embeddings.numpy())
        assert moved is not bool(given.get("frozen_layers"))
    assert not np.allclose(*learnt)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\). Received: 1.0"),
        ({"layer_decay": 0.0}, "layer_decay must be more than 0 and at most 1"),
        ({"fgm": -1.0}, "fgm must be 0 or more"),
        ({"r_drop": 1.0}, "r_drop is for models that choose one of several classes"),
        ({"label_smoothing": 0.1}, "label_smoothing is for models that choose one of several classes"),
        ({"frozen_layers": 4}, "layers to freeze must be 0 to 3"),
    ],
)
def test_recipes_that_cannot_be(answerer, options, message):
    with pytest.raises(InputError, match=message):
        answerer.compile(**options)


def test_a_crf_learns_its_transitions_at_a_rate_of_its_own(steady_folder):
    model = kbert.BertTokenClassifier.from_preset(str(steady_folder), TAGS, head="bilstm-crf", max_length=16)
    rates = model.head_rates()
    assert {v.path for v in model.crf.weights} | {v.path for v in model.head.bilstm.weights} == rates.keys()
    model.compile()
    assert rates.items() <= model.optimizer.rate_factors.items()


def test_layers_of_an_earlier_recipe_learn_again(tagger):
    tagger.compile(frozen_layers=3)
    assert not any(layer.trainable for layer in tagger.encoder.stack())
    tagger.compile(frozen_layers=1)
    assert [layer.trainable for layer in tagger.encoder.stack()] == [False, True, True]
    tagger.compile()
    assert all(layer.trainable for layer in tagger.encoder.stack())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam", "learning_rate": 1e-3}, "learning_rate are of the usual optimizer"),
        ({"loss": "mse", "label_smoothing": 0.1}, "label_smoothing are of the usual loss"),
        ({"metrics": ["accuracy"]}, "is measured by its answers"),
    ],
)
def test_options_that_would_be_idle(tagger, options, message):
    with pytest.raises(InputError, match=message):
        tagger.compile(**options)


def test_a_crf_compiled_again_has_its_own_loss(steady_folder):
    model = kbert.BertTokenClassifier.from_preset(str(steady_folder), TAGS, head="crf", max_length=16)
    model.compile(loss="mse")
    model.compile()
    model.fit(TEXTS, ENTITIES, verbose=0)


@pytest.mark.parametrize(
    "entities", [[(0, 9, "MOOD"), (5, 9, "THING")], [(5, 5, "MOOD")], [(-1, 4, "MOOD")], [(5, 10, "MOOD")]]
)
def test_entities_that_cannot_be(tagger, entities):
    with pytest.raises(InputError, match="the entities of text 1 are empty, lie outside of it, or overlap"):
        tagger.fit(["good film"] * 2, [[], entities], verbose=0)


def test_scores_and_pairs_alone_train_with_losses_of_their_own(embedder):
    x, scores = (TEXTS[:4], TEXTS[1:4] + TEXTS[:1]), [0.9, 0.1, 0.5, -0.2]
    embedder.compile(keras.optimizers.SGD(0.0))
    embedder.fit(x, epochs=1, verbose=0)
    history = embedder.fit(x, scores, validation_data=(x, scores), verbose=0).history
    vectors = [embedder.predict(texts)["embedding"] for texts in x]
    expected = (((vectors[0] * vectors[1]).sum(1) - scores) ** 2).mean()
    np.testing.assert_allclose([history["loss"][0], history["val_loss"][0]], expected, rtol=1e-4)
    with pytest.raises(InputError, match="gradient_accumulation_steps=1"):
        embedder.fit(x, gradient_accumulation_steps=2, verbose=0)


def test_rows_of_the_table_without_a_token_fill_no_mask(steady_folder):
    keras.utils.set_random_seed(0)
    tokenizer = kbert.BertTokenizer.from_preset(str(steady_folder), parse_special_tokens=["[MASK]"])
    config = dataclasses.replace(
        kbert.BertEncoder.from_preset(str(steady_folder)).config, vocabulary_size=2 * tokenizer.vocabulary_size()
    )
    task = FillMaskConfig(top_k=tokenizer.vocabulary_size(), max_length=16)
    model = kbert.BertMaskedLM(kbert.BertEncoder(config), tokenizer, task)
    answers = model.predict(["good [MASK]"])
    assert sorted(answers["token"][0, 0]) == sorted(tokenizer.vocabulary)
    np.testing.assert_allclose(answers["score"].sum(), 1, rtol=1e-5)
