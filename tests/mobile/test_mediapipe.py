"""MediaPipe runs the files, and reads texts as the model does, or as it is known to."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from mobile.cases import LABELS, TEXTS, T, classifier

import kbert
from kbert.mobile.characters import phone_tokenizer
from kbert.mobile.export import export_mobile

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite:UserWarning", "ignore:.*Interpreter:UserWarning")


@pytest.fixture
def mediapipe():
    """MediaPipe's text tasks."""
    pytest.importorskip("mediapipe", reason="needs the extra `mobile`")
    from mediapipe.tasks import python

    return python


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_mediapipe_classifies(tiny_folder, mediapipe, tmp_path, problem):
    model = classifier(tiny_folder, problem=problem)
    path = export_mobile(model, tmp_path / "mood.tflite")
    expected = model.predict(TEXTS)["probabilities"]
    with mediapipe.text.TextClassifier.create_from_model_path(str(path)) as classify:
        for text, probabilities in zip(TEXTS, expected, strict=True):
            (head,) = classify.classify(text).classifications
            scores = {category.category_name: category.score for category in head.categories}
            np.testing.assert_allclose([scores[label] for label in LABELS], probabilities, atol=1e-5)


@pytest.mark.parametrize("inputs", ["ids", "characters"])
def test_mediapipe_counts_every_line_of_a_vocabulary(model, mediapipe, tmp_path, inputs):
    """SimBERT's has an empty token."""
    tokens = list(model.tokenizer.vocabulary)
    tokens[4], tokens[tokens.index("[unused3]")] = "", "x y"
    tokens[tokens.index("[unused5]")] = "[MASK]"
    gaps = kbert.BertTextClassifier(model.encoder, kbert.BertTokenizer(tokens), model.task)
    path = export_mobile(gaps, tmp_path / "mood.tflite", inputs=inputs)
    with mediapipe.text.TextClassifier.create_from_model_path(str(path)) as classify:
        for text, probabilities in zip(TEXTS, gaps.predict(TEXTS)["probabilities"], strict=True):
            (head,) = classify.classify(text).classifications
            scores = {category.category_name: category.score for category in head.categories}
            np.testing.assert_allclose([scores[label] for label in LABELS], probabilities, atol=1e-5)


def test_mediapipe_reads_characters_as_the_model_does(tiny_folder, mediapipe, tmp_path):
    model = classifier(tiny_folder)
    path = export_mobile(model, tmp_path / "mood.tflite", inputs="characters")
    texts = [
        *TEXTS,
        "göod fílm",
        "pl\u200bot x\u00ad y",
        "\u3000我good",
        "DÜLL,dull",
        "un" * 40,
        "was [SEP] 龘bad😀",
        "爱！看",
        "ﬁne",
    ]
    with mediapipe.text.TextClassifier.create_from_model_path(str(path)) as classify:
        for text, probabilities in zip(texts, model.predict(texts)["probabilities"], strict=True):
            (head,) = classify.classify(text).classifications
            scores = {category.category_name: category.score for category in head.categories}
            found = [scores[label] for label in LABELS]
            np.testing.assert_allclose(found, probabilities, atol=1e-5, err_msg=text)


def test_mediapipe_embeds_and_its_tokenizer_is_known(tiny_folder, mediapipe, tmp_path):
    """The vectors tell which tokens MediaPipe has read; accents are what it reads otherwise."""
    model = kbert.BertTextEmbedder.from_preset(str(tiny_folder), max_length=T)
    path = export_mobile(model, tmp_path / "vector.tflite")
    texts = [
        *TEXTS,
        "göod film",
        "x\u00ad y",
        "\u3000我good",
        "DÜLL,dull",
        "un" * 60,
        "plot\u200bwas [SEP] bad",
        "爱！看",
    ]
    read, misread = phone_tokenizer(model.tokenizer.vocabulary), 0
    with mediapipe.text.TextEmbedder.create_from_model_path(str(path)) as embed:
        for text in texts:
            (found,) = embed.embed(text).embeddings
            assert found.head_name == "embedding"
            rows = model.tokenizer.pack(tf.cast(read([text]), tf.int32), max_length=T)
            np.testing.assert_allclose(found.embedding, model(rows)[0], atol=1e-5, err_msg=text)
            misread += np.abs(found.embedding - model.predict([text])["embedding"][0]).max() > 1e-3
    assert 1 <= misread <= 4
