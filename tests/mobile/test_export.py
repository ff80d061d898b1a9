"""Files for phones: what runs them gives the model's own answers."""

from __future__ import annotations

import json
import logging
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.cli import main
from kbert.config import AnswerConfig, ClassifyConfig, TagConfig
from kbert.errors import InputError
from kbert.mobile.characters import IDS, phone_tokenizer
from kbert.mobile.choices import QUANTIZATIONS
from kbert.mobile.export import apps, export_mobile, mobile_file
from kbert.mobile.forms import form_of
from kbert.mobile.inputs import IdInputs
from kbert.mobile.report import MobileFile, report

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite:UserWarning", "ignore:.*Interpreter:UserWarning")
LABELS = ["a", "b", "schön"]
TEXTS = ["good film", "a very dull plot !", "我 不 爱 看", "", "the film was not fine , unly good ? " * 3, "Good FILM!"]
T = 17


def classifier(folder, **settings):
    keras.utils.set_random_seed(1)
    return kbert.BertTextClassifier.from_preset(str(folder), max_length=T, **{"labels": LABELS, **settings})


@pytest.fixture(scope="module")
def model(tiny_folder):
    return classifier(tiny_folder)


@pytest.fixture
def mediapipe():
    """MediaPipe's text tasks."""
    pytest.importorskip("mediapipe", reason="needs the extra `mobile`")
    from mediapipe.tasks import python

    return python


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
    import dataclasses

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


# === MediaPipe ===


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
    import dataclasses

    encoder = kbert.BertEncoder(dataclasses.replace(tiny_config, max_sequence_length=384))
    answerer = kbert.BertQuestionAnswerer(encoder, model.tokenizer, AnswerConfig(max_length=384))
    assert apps(answerer, "ids", "int8") == ["Task Library BertQuestionAnswerer", "LiteRT"]


# === Bad input ===


def test_what_has_no_form(tiny_folder, tiny_config, model):
    tagger = kbert.BertTokenClassifier.from_preset(str(tiny_folder), ["O", "B-A"], head="crf", max_length=T)
    with pytest.raises(InputError, match="a CRF's tags are decoded"):
        mobile_file(tagger)
    encoder = kbert.BertEncoder.from_preset(str(tiny_folder))
    bilstm = kbert.BertTokenClassifier(
        encoder, model.tokenizer, TagConfig(labels=("O", "B-A"), head="bilstm", max_length=T)
    )
    with pytest.raises(InputError, match="a BiLSTM has no form in LiteRT"):
        mobile_file(bilstm)
    tokenizer = kbert.BertTokenizer.from_preset(str(tiny_folder), parse_special_tokens=["[MASK]"])
    with pytest.raises(InputError, match="fill-mask has no form for phones"):
        mobile_file(kbert.BertMaskedLM(encoder, tokenizer, kbert.FillMaskConfig(max_length=16)))


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
    with pytest.raises(InputError, match="no texts were given"):
        mobile_file(model, "ids", "full-int8", calibration=[])
    with pytest.raises(InputError, match="the texts for calibration are all blank"):
        mobile_file(model, "ids", "full-int8", calibration=["", " "])
    with pytest.raises(InputError, match="is a folder: name a file"):
        export_mobile(model, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made a folder"):
        export_mobile(model, tmp_path / "file" / "mood.tflite")


# === The command ===


@pytest.fixture(scope="module")
def run_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mood"
    model.save_to_preset(folder)
    return folder


def test_the_command(run_folder, model, tmp_path, capsys):
    dev, texts = tmp_path / "dev.tsv", tmp_path / "texts.txt"
    dev.write_text(
        "text\tlabel\n" + "".join(f"{t or '.'}\t{LABELS[i % 3]}\n" for i, t in enumerate(TEXTS)), encoding="utf8"
    )
    texts.write_text("\n".join(TEXTS), encoding="utf8")
    target = tmp_path / "mood.tflite"
    command = ["export", str(run_folder), str(target), "--format", "litert", "--length", "13", "--license", "MIT"]
    assert main([*command, "--report", str(dev)]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["bytes"] == target.stat().st_size
    assert (plain["length"], plain["size_ratio"]) == (13, 1.0)
    assert plain["report"]["examples"] == plain["report"]["same_answers"] == len(TEXTS)
    assert plain["report"]["largest_difference"] < 1e-5
    assert plain["report"]["metrics"] == plain["report"]["model_metrics"]
    assert plain["report"]["misread_texts"] == 0
    assert plain["report"]["latency_ms"] > 0
    quantized = ["--quantize", "full-int8", "--calibration", str(texts), "--report", str(dev), "--inputs", "text"]
    assert main([*command, *quantized]) == 0
    full = json.loads(capsys.readouterr().out)
    assert 1e-5 < full["report"]["largest_difference"] < 0.2
    assert "misread_texts" not in full["report"]
    assert full["apps"] == ["LiteRT"]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--length", "30"], "max_length must be at most 29"),
        (["--quantize", "full-int8"], "add --calibration FILE"),
        (["--quantize", "int8", "--calibration", "EMPTY"], "leave it away"),
        (["--quantize", "full-int8", "--calibration", "EMPTY"], "EMPTY"),
        (["--quantize", "full-int8", "--calibration", "absent"], "absent"),
    ],
)
def test_the_commands_complaints(run_folder, tmp_path, capsys, flags, complaint):
    empty = tmp_path / "EMPTY"
    empty.write_text("")
    target = tmp_path / "mood.tflite"
    flags = [str(empty) if flag == "EMPTY" else flag for flag in flags]
    assert main(["export", str(run_folder), str(target), "--format", "litert", *flags]) == 2
    assert complaint in capsys.readouterr().err
    assert not target.exists()


def test_a_report_counts_what_differs(model):
    """Beside another model's file, labels and scores differ as the two models do."""
    other = kbert.BertTextClassifier(model.encoder, model.tokenizer, model.task)
    other.head.dense.kernel.assign(-model.head.dense.kernel)
    expected, found = (m.predict(TEXTS) for m in (model, other))
    content = mobile_file(other)
    result = report(model, TEXTS, expected["label"].tolist(), "ids", content, content)
    assert result["model_metrics"]["accuracy"] == 1
    assert result["same_answers"] == (expected["label"] == found["label"]).sum() < len(TEXTS)
    apart = max(np.abs(expected[name] - found[name]).max() for name in ("score", "probabilities"))
    assert result["largest_difference"] == pytest.approx(apart, abs=1e-5)


def test_rows_are_padded_to_the_files_length(model):
    row = IdInputs(model, form_of(model)).rows([["good film"]])[0]
    assert {name: value.shape for name, value in row.items()} == dict.fromkeys(IDS, (1, T))
    assert row["mask"].sum() == 4
