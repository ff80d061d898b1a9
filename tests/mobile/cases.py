"""Models of every task that has a form on a phone, with texts for them, and of every kind that has none."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

import kbert
from kbert.config import ClassifyConfig
from kbert.modeling.encoder import make_encoder

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


# === What has no form ===


def _tagger(folder, head):
    return kbert.BertTokenClassifier.from_preset(folder, ["O", "B-A"], head=head, max_length=T)


def _light_classifier(folder):
    classifier = kbert.BertTextClassifier.from_preset(folder, labels=LABELS)
    config = dataclasses.replace(classifier.encoder.config, encoder_type="bilstm", num_layers=1)
    task = ClassifyConfig(labels=tuple(LABELS), max_length=T)
    return kbert.BertTextClassifier(make_encoder(config), classifier.tokenizer, task)


def _masked_lm(folder):
    encoder = kbert.BertEncoder.from_preset(folder)
    tokenizer = kbert.BertTokenizer.from_preset(folder, parse_special_tokens=["[MASK]"])
    return kbert.BertMaskedLM(encoder, tokenizer, kbert.FillMaskConfig(max_length=16))


FORMLESS = {
    "crf": (lambda folder: _tagger(folder, "crf"), "a CRF's tags are decoded .*: export a SavedModel, or train with"),
    "bilstm": (lambda folder: _tagger(folder, "bilstm"), "a BiLSTM has no form in LiteRT: export a SavedModel"),
    "bilstm-crf": (lambda folder: _tagger(folder, "bilstm-crf"), "a BiLSTM has no form in LiteRT: export a SavedModel"),
    "light encoder": (_light_classifier, "a BiLSTM has no form in LiteRT: export a SavedModel"),
    "masked LM": (_masked_lm, "fill-mask has no form for phones, .*: export a SavedModel"),
}
"""How to make each from a folder, and what is said of it."""
