"""The signature of every task, in the C++ loader: its inputs and outputs, and the answers of `predict`."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import kbert
from kbert.config import FillMaskConfig
from kbert.data.readers import read_texts
from kbert.export.cpp_loader import run_in_cpp_loader
from kbert.export.saved_model import export_saved_model

TEXTS = [
    "good film!",
    "",
    "我不爱电影",
    "the plot was " * 40,
    "☃ ｆｉｎｅ Café \x00 [SEP]",
    "😀 fi\u0301lm \U0001f468\u200d\U0001f469",
]
QUESTIONS = ["good", "", "爱", "was " * 30, "not", "film"]
TAGS = ["O", "B-A", "I-A", "B-B", "I-B"]


def classifier(folder, **task):
    return kbert.BertTextClassifier.from_preset(folder, max_length=16, **task)


def tagger(folder, head):
    return kbert.BertTokenClassifier.from_preset(folder, TAGS, head=head, max_length=16)


def masked_lm(folder):
    encoder = kbert.BertEncoder.from_preset(folder)
    tokenizer = kbert.BertTokenizer.from_preset(folder, parse_special_tokens=["[MASK]"])
    return kbert.BertMaskedLM(encoder, tokenizer, FillMaskConfig(top_k=2, max_length=16))


def answerer(folder, no_answer):
    return kbert.BertQuestionAnswerer.from_preset(folder, max_length=16, no_answer=no_answer)


ENTITY = {"entity_text", "entity_label", "entity_start", "entity_end", "entity_score", "entity_count"}
ANSWER = {"answer", "start", "end", "score"}
CASES = {
    "multi-label": (lambda f: classifier(f, labels=["a", "b"], problem="multi_label"), {"labels", "probabilities"}),
    "regression": (lambda f: classifier(f, problem="regression"), {"value"}),
    "tag": (lambda f: tagger(f, "dense"), ENTITY),
    "tag with a CRF": (lambda f: tagger(f, "crf"), ENTITY),
    "tag with a BiLSTM and a CRF": (lambda f: tagger(f, "bilstm-crf"), ENTITY),
    "answer": (lambda f: answerer(f, False), ANSWER),
    "answer or none": (lambda f: answerer(f, True), ANSWER),
    "embed": (lambda f: kbert.BertTextEmbedder.from_preset(f, max_length=16), {"embedding"}),
    "fill-mask": (masked_lm, {"token", "score"}),
}


def assert_loader_equals_predict(model, folder, case, texts, questions):
    """The answers of `predict`, which they are: the same names, types and values, and scores to 1e-4."""
    export_saved_model(model, folder, verify=False)
    inputs = {"question": questions, "context": texts} if "answer" in case else {"text": texts}
    answers = run_in_cpp_loader(folder / "1", inputs)
    expected = model.predict(tuple(inputs.values()) if len(inputs) > 1 else texts)
    assert answers.keys() == expected.keys() == CASES[case][1]
    for name, value in expected.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(answers[name], value, atol=1e-4, err_msg=name)
        else:
            assert answers[name].dtype == value.dtype
            assert answers[name].tolist() == value.tolist()
    return expected


@pytest.mark.parametrize("case", CASES)
def test_the_cpp_loader_answers_as_predict_does(tiny_folder, tmp_path, case):
    keras.utils.set_random_seed(2)
    model = CASES[case][0](str(tiny_folder))
    texts = [text.replace("good", "[MASK]") for text in TEXTS] if case == "fill-mask" else TEXTS
    answers = assert_loader_equals_predict(model, tmp_path / "model", case, texts, QUESTIONS)
    if case.startswith("tag"):
        assert answers["entity_count"].sum() > 0


@pytest.fixture(scope="module")
def real_texts(real_data):
    """500 sentences and reviews, English and Chinese, some with emoji and combining marks put in."""
    english = read_texts(real_data("sst2/dev.tsv")).texts[:250]
    chinese = [text[:120] for text in read_texts(real_data("chnsenticorp/dev.tsv")).texts[:250]]
    added = ["", " \U0001f468\u200d\U0001f469 cafe\u0301", "", " \U0001f600\uff41\uff42"]
    return [text + added[i % len(added)] for i, text in enumerate([*english, *chinese])]


@pytest.mark.parametrize("case", CASES)
def test_real_texts_in_the_cpp_loader(minilm_folder, real_texts, tmp_path, case):
    keras.utils.set_random_seed(3)
    model = CASES[case][0](str(minilm_folder))
    texts = [text.replace(" ", " [MASK] ", 1) for text in real_texts] if case == "fill-mask" else real_texts
    questions = [text[: i % 40] for i, text in enumerate(reversed(real_texts))]
    answers = assert_loader_equals_predict(model, tmp_path / "model", case, texts, questions)
    if names := SPANS.get(case.split()[0]):
        assert_slices(texts, *(answers[name].reshape(len(texts), -1) for name in names))


SPANS = {"tag": ("entity_text", "entity_start", "entity_end"), "answer": ("answer", "start", "end")}


def assert_slices(texts, found, starts, ends):
    """Starts and ends slice what they were found in; arrays [B, E]."""
    assert (found != "").sum() > len(texts) / 4
    for text, *row in zip(texts, found, starts, ends, strict=True):
        for part, start, end in zip(*row, strict=True):
            assert part == ("" if start < 0 else text[start:end])
