"""LiteRT computes what the model does, for batches of every shape."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import kbert
from kbert.config import ClassifyConfig
from kbert.errors import InputError
from kbert.mobile.litert import LiteRTEngine, to_litert

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite:UserWarning")
TEXTS = [
    "good film",
    "a very dull plot !",
    "我 不 爱 看",
    "",
    "the film was not fine , very dull , un ##ly good ? " * 3,
]


@pytest.fixture(scope="module")
def model(tiny_folder):
    return kbert.BertTextClassifier.from_preset(tiny_folder, labels=["a", "b", "c"])


@pytest.mark.parametrize(("quantize", "error"), [("none", 1e-5), ("int8", 0.2)])
def test_predictions_are_the_models(model, quantize, error):
    engine = LiteRTEngine(model, quantize, threads=1)
    assert model.encoder.skip_padding  # converting has left the model as it was
    expected = model.predict(TEXTS)["probabilities"]
    assert np.ptp(expected) > 10 * 1e-5
    for batch_size in (2, 5):
        got = model.predict(TEXTS, batch_size=batch_size, engine=engine)
        np.testing.assert_allclose(got["probabilities"], expected, atol=error)
    if quantize == "int8":
        assert np.abs(got["probabilities"] - expected).max() > 1e-6


def test_int8_weights_take_less_room(model, tiny_config):
    config = dataclasses.replace(tiny_config, hidden_dim=120, intermediate_dim=250)
    task = ClassifyConfig(labels=("a", "b"), max_length=16)
    larger = kbert.BertTextClassifier(kbert.BertEncoder(config), model.tokenizer, task)
    assert len(to_litert(larger, "int8")) < 0.4 * len(to_litert(larger))


def test_an_unknown_quantization(model):
    with pytest.raises(InputError, match="`quantize` must be one of none, fp16, int8. Received: 'int4'"):
        to_litert(model, "int4")


def test_the_package_is_missing(model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match="pip install ai-edge-litert"):
        LiteRTEngine(model)


def test_the_other_tasks_answer_the_same(tiny_folder):
    folder, questions = str(tiny_folder), ["good", "film", "", "爱", "not"]
    tags = ["O", "B-A", "I-A"]
    for model, x in (
        (kbert.BertTokenClassifier.from_preset(folder, tags, head="crf", max_length=16), TEXTS),
        (kbert.BertQuestionAnswerer.from_preset(folder, max_length=16), (questions, TEXTS)),
        (kbert.BertTextEmbedder.from_preset(folder, max_length=16), TEXTS),
    ):
        expected, got = model.predict(x), model.predict(x, engine=LiteRTEngine(model))
        for name, value in expected.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(got[name], value, atol=1e-4)
            else:
                assert got[name].tolist() == value.tolist()


def test_what_has_no_form_in_litert(tiny_folder):
    tagger = kbert.BertTokenClassifier.from_preset(str(tiny_folder), ["O", "B-A"], head="bilstm", max_length=16)
    with pytest.raises(InputError, match="LiteRT has no form of this BertTokenClassifier"):
        to_litert(tagger)
    encoder = kbert.BertEncoder.from_preset(str(tiny_folder))
    tokenizer = kbert.BertTokenizer.from_preset(str(tiny_folder), parse_special_tokens=["[MASK]"])
    with pytest.raises(InputError, match="a masked LM computes at masks alone"):
        to_litert(kbert.BertMaskedLM(encoder, tokenizer, kbert.FillMaskConfig(max_length=16)))
