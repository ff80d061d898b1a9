"""The signature of every task, in the C++ loader: its inputs and outputs, and the answers of `predict`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from export.cases import CASES, graph_of, inputs_of, text_ops

from kbert.data.readers import read_texts
from kbert.export.cpp_loader import run_in_cpp_loader
from kbert.export.saved_model import export_saved_model

SPANS = {"tag": ("entity_text", "entity_start", "entity_end"), "answer": ("answer", "start", "end")}


def assert_loader_equals_predict(model, folder, case, inputs):
    """The answers of `predict`, which it gives: the same names, types and values, and scores to 1e-4."""
    folder = export_saved_model(model, folder, verify=False, warmup=False)
    answers = run_in_cpp_loader(folder, inputs)
    expected = model.predict(tuple(inputs.values()) if len(inputs) > 1 else inputs["text"])
    assert answers.keys() == expected.keys() == CASES[case][1]
    for name, value in expected.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(answers[name], value, atol=1e-4, err_msg=name)
        else:
            assert answers[name].dtype == value.dtype
            assert answers[name].tolist() == value.tolist()
    assert text_ops(graph_of(folder)) == {"FastWordpieceTokenizeWithOffsets"}
    return expected


@pytest.mark.parametrize("case", CASES)
def test_the_cpp_loader_answers_as_predict_does(tiny_folder, tmp_path, case):
    keras.utils.set_random_seed(2)
    model = CASES[case][0](str(tiny_folder))
    answers = assert_loader_equals_predict(model, tmp_path / "model", case, inputs_of(case))
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
    inputs = {"question": questions, "context": texts} if "answer" in case else {"text": texts}
    answers = assert_loader_equals_predict(model, tmp_path / "model", case, inputs)
    if names := SPANS.get(case.split()[0]):
        assert_slices(texts, *(answers[name].reshape(len(texts), -1) for name in names))


def assert_slices(texts, found, starts, ends):
    """Starts and ends slice what they were found in; arrays [B, E]."""
    assert (found != "").sum() > len(texts) / 4
    for text, *row in zip(texts, found, starts, ends, strict=True):
        for part, start, end in zip(*row, strict=True):
            assert part == ("" if start < 0 else text[start:end])
