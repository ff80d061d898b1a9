"""The signature of every task, in the C++ loader: its inputs and outputs, and the answers of `predict`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from export.cases import CASES, graph_of, inputs_of, text_ops

from kbert.export.cpp_loader import run_in_cpp_loader
from kbert.export.saved_model import export_saved_model


@pytest.mark.parametrize("case", CASES)
def test_the_cpp_loader_answers_as_predict_does(tiny_folder, tmp_path, case):
    make, names = CASES[case]
    keras.utils.set_random_seed(2)
    model = make(str(tiny_folder))
    folder = export_saved_model(model, tmp_path / "model", verify=False)
    inputs = inputs_of(case)
    answers = run_in_cpp_loader(folder, inputs)
    expected = model.predict(tuple(inputs.values()) if len(inputs) > 1 else inputs["text"])
    assert answers.keys() == expected.keys() == names
    for name, value in expected.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(answers[name], value, atol=1e-4, err_msg=name)
        else:
            assert answers[name].dtype == value.dtype
            assert answers[name].tolist() == value.tolist()
    if case.startswith("tag"):
        assert answers["entity_count"].sum() > 0
    assert text_ops(graph_of(folder)) == {"FastWordpieceTokenizeWithOffsets"}
