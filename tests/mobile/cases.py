"""Models of every task that has a form on a phone, and texts for them."""

from __future__ import annotations

import keras
import numpy as np

import kbert

LABELS = ["a", "b", "schön"]
TEXTS = ["good film", "a very dull plot !", "我 不 爱 看", "", "the film was not fine , unly good ? " * 3, "Good FILM!"]
T = 17


def classifier(folder, **settings):
    keras.utils.set_random_seed(1)
    return kbert.BertTextClassifier.from_preset(str(folder), max_length=T, **{"labels": LABELS, **settings})


def others(folder):
    """A model of each other task and problem, and texts for it."""
    folder, pairs = str(folder), (TEXTS, TEXTS[::-1])
    return {
        "pairs": (classifier(folder, pair=True), pairs),
        "several labels": (classifier(folder, problem="multi_label"), TEXTS),
        "a number": (classifier(folder, labels=None, problem="regression"), TEXTS),
        "embedding": (kbert.BertTextEmbedder.from_preset(folder, max_length=T), TEXTS),
        "answer": (
            kbert.BertQuestionAnswerer.from_preset(folder, max_length=T),
            (["good", "film", "", "爱", "not", "?"], TEXTS),
        ),
        "tags": (kbert.BertTokenClassifier.from_preset(folder, ["O", "B-A", "I-A"], max_length=T), TEXTS),
    }


def same(found, expected, atol=1e-5):
    for name, value in expected.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(found[name], value, atol=atol)
        else:
            assert found[name].tolist() == value.tolist()
