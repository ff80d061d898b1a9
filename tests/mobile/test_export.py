"""Files for phones: what runs them gives the model's own answers."""

from __future__ import annotations

import dataclasses
import logging
import zipfile

import keras
import numpy as np
import pytest
from mobile.cases import FORMLESS, LABELS, TEXTS, T, classifier, others, same

import kbert
from kbert.config import AnswerConfig, ClassifyConfig
from kbert.errors import InputError
from kbert.mobile.characters import IDS
from kbert.mobile.choices import QUANTIZATIONS
from kbert.mobile.export import apps, export_mobile, mobile_file
from kbert.mobile.forms import form_of
from kbert.mobile.inputs import IdInputs
from kbert.mobile.report import MobileFile

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite:UserWarning", "ignore:.*Interpreter:UserWarning")


@pytest.mark.parametrize("inputs", ["ids", "characters", "text"])
def test_answers_are_the_models(model, inputs):
    content = mobile_file(model, inputs)
    assert model.encoder.skip_padding  # converting has left the model as it was
    same(MobileFile(content, model, inputs).predict(TEXTS), model.predict(TEXTS))


@pytest.mark.parametrize("kind", ["pairs", "several labels", "a number", "embedding", "answer", "tags"])
def test_other_tasks_answer_the_same(tiny_folder, kind):
    keras.utils.set_random_seed(2)
    model, x = others(tiny_folder)[kind]
    expected = model.predict(x)
    same(MobileFile(mobile_file(model), model, "ids").predict(x), expected)
    if kind in ("answer", "tags"):
        with pytest.raises(InputError, match="answers with parts of the text"):
            mobile_file(model, "text")
    else:
        same(MobileFile(mobile_file(model, "text"), model, "text").predict(x), expected)


@pytest.mark.parametrize(("quantize", "error"), [("fp16", 2e-3), ("int8", 0.05), ("full-int8", 0.15)])
def test_quantized_files_are_near_the_model(model, quantize, error):
    expected = model.predict(TEXTS)["probabilities"]
    for inputs in ("ids", "text"):
        content = mobile_file(model, inputs, quantize, calibration=TEXTS * 2)
        found = MobileFile(content, model, inputs).predict(TEXTS)["probabilities"]
        assert 1e-7 < np.abs(found - expected).max() < error
        assert np.ptp(expected) > error / 2


def test_weights_of_fewer_bits_take_less_room(tiny_config, model):
    config = dataclasses.replace(tiny_config, hidden_dim=120, intermediate_dim=490)
    task = ClassifyConfig(labels=("a", "b"), max_length=16)
    larger = kbert.BertTextClassifier(kbert.BertEncoder(config), model.tokenizer, task)
    sizes = {q: len(mobile_file(larger, "ids", q, TEXTS)) for q in QUANTIZATIONS}
    assert sizes["fp16"] < 0.6 * sizes["none"]
    assert max(sizes["int8"], sizes["full-int8"]) < 0.4 * sizes["none"]


def test_shapes_names_and_files(model, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = export_mobile(model, tmp_path / "new" / "mood.tflite", version="7", author="ada", license="MIT")
    runner = Interpreter(str(path)).get_signature_runner()
    inputs = runner.get_input_details()
    assert {name: (tuple(i["shape"]), i["dtype"]) for name, i in inputs.items()} == dict.fromkeys(
        IDS, ((1, T), np.int32)
    )
    assert tuple(runner.get_output_details()["probability"]["shape"]) == (1, 3)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == LABELS
        assert archive.read("vocab.txt").decode().splitlines() == list(model.tokenizer.vocabulary)
    assert b"mood" in path.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ["mood.tflite"]


def test_the_python_example_of_the_readme(model, tmp_path):
    path = export_mobile(model, tmp_path / "mood.tflite", inputs="text")

    import zipfile

    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    labels = zipfile.ZipFile(path).read("labels.txt").decode().splitlines()
    classify = Interpreter(str(path)).get_signature_runner()
    text = np.frombuffer(b"a very dull plot !", np.uint8)[None]
    scores = classify(text=text)["probability"][0]
    found = labels[scores.argmax()]

    expected = model.predict(["a very dull plot !"])
    assert found == expected["label"][0]
    np.testing.assert_allclose(scores.max(), expected["score"][0], atol=1e-6)


def test_rows_are_padded_to_the_files_length(model):
    row = IdInputs(model, form_of(model)).rows([["good film"]])[0]
    assert {name: value.shape for name, value in row.items()} == dict.fromkeys(IDS, (1, T))
    assert row["mask"].sum() == 4


# === What an app must know ===


def test_which_apps_run_it(tiny_folder, caplog):
    models = {kind: model for kind, (model, _) in others(tiny_folder).items()}
    model = classifier(tiny_folder)
    phone = ["MediaPipe TextClassifier", "Task Library BertNLClassifier", "LiteRT"]
    assert apps(model, "ids", "fp16") == phone
    assert apps(model, "ids", "int8") == [phone[0], phone[2]]
    assert apps(model, "characters", "none") == phone
    assert apps(model, "text", "none") == ["LiteRT"]
    assert apps(models["pairs"], "ids", "none") == ["LiteRT"]
    assert apps(models["embedding"], "ids", "none") == ["MediaPipe TextEmbedder", "LiteRT"]
    assert apps(models["answer"], "ids", "none") == ["LiteRT"]  # Task Library's rows have 384 tokens
    assert "É" in caplog.text


def test_a_cased_model_is_warned_of(model, caplog):
    tokenizer = kbert.BertTokenizer(model.tokenizer.vocabulary, kbert.TokenizerConfig(do_lower_case=False))
    cased = kbert.BertTextClassifier(model.encoder, tokenizer, model.task)
    with caplog.at_level(logging.WARNING):
        apps(cased, "ids", "none")
    assert "the model is cased, but MediaPipe and Task Library lower-case" in caplog.text


def test_task_librarys_answerer(tiny_config, model):
    encoder = kbert.BertEncoder(dataclasses.replace(tiny_config, max_sequence_length=384))
    answerer = kbert.BertQuestionAnswerer(encoder, model.tokenizer, AnswerConfig(max_length=384))
    assert apps(answerer, "ids", "int8") == ["Task Library BertQuestionAnswerer", "LiteRT"]


# === Bad input ===


@pytest.mark.parametrize("kind", FORMLESS)
def test_what_has_no_form(tiny_folder, kind):
    make, complaint = FORMLESS[kind]
    with pytest.raises(InputError, match=complaint):
        mobile_file(make(str(tiny_folder)))


@pytest.mark.parametrize("label", ["a\nb", "a\u2028b", "b\r"])
def test_a_label_of_several_lines(tiny_folder, label):
    with pytest.raises(InputError, match="holds an end of line, which the list of labels in a file for phones cannot"):
        mobile_file(classifier(tiny_folder, labels=["good", label]))


def test_characters_are_for_mediapipe(tiny_folder):
    for kind, (model, _) in others(tiny_folder).items():
        if kind not in ("several labels", "embedding"):
            with pytest.raises(InputError, match="a file of characters is for MediaPipe"):
                mobile_file(model, "characters")


def test_wrong_arguments(model, tmp_path):
    with pytest.raises(InputError, match="`inputs` must be one of ids, characters, text. Received: 'words'"):
        mobile_file(model, "words")
    with pytest.raises(InputError, match="`quantize` must be one of .*full-int8. Received: 'int4'"):
        mobile_file(model, "ids", "int4")
    with pytest.raises(InputError, match="full-int8 measures activations on texts"):
        mobile_file(model, "ids", "full-int8")
    with pytest.raises(InputError, match="`calibration`: no texts were given; give some 200 texts"):
        mobile_file(model, "ids", "full-int8", calibration=[])
    with pytest.raises(InputError, match="`calibration`: the texts are all blank; give some 200 texts"):
        mobile_file(model, "ids", "full-int8", calibration=["", " "])
    with pytest.raises(InputError, match="is a folder: name a file"):
        export_mobile(model, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be made a folder \(.*\): choose another target"):
        export_mobile(model, tmp_path / "file" / "mood.tflite")
