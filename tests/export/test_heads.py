"""Several models over one encoder, whose weights the file holds once."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from export.cases import CASES, TEXTS

import kbert
from kbert.cli import main
from kbert.errors import InputError
from kbert.export.cpp_loader import run_all_in_cpp_loader, signature_defs
from kbert.export.heads import check_names
from kbert.export.saved_model import export_heads


@pytest.fixture(scope="module")
def models(tiny_folder):
    keras.utils.set_random_seed(3)
    made = {
        "mood": CASES["classify"][0](str(tiny_folder)),
        "score": CASES["regression"][0](str(tiny_folder)),
        "tag": CASES["tag with a CRF"][0](str(tiny_folder)),
        "mask": CASES["fill-mask"][0](str(tiny_folder)),
    }
    pooler = made["tag"].encoder.pooler.kernel
    pooler.assign(pooler + 1.0)  # which no tagger reads
    return made


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory):
    return export_heads(models, tmp_path_factory.mktemp("saved_models") / "many")


def test_each_answers_as_by_itself(models, exported):
    tokens = [text.replace("good", "[MASK]") for text in TEXTS]
    calls = [(name, {"text": tokens}) for name in ("serving_default", *models)]
    default, *answered = run_all_in_cpp_loader(exported, calls)
    assert default["label"].tolist() == answered[0]["label"].tolist()
    for model, answers in zip(models.values(), answered, strict=True):
        for name, value in model.predict(tokens).items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(answers[name], value, atol=1e-4, err_msg=name)
            else:
                assert answers[name].tolist() == value.tolist()


def test_signatures(exported):
    methods = {name: d.method_name.rpartition("/")[2] for name, d in signature_defs(exported).items()}
    assert methods == dict.fromkeys(("serving_default", "mood", "score", "tag", "mask"), "predict") | {
        "classify": "classify",
        "mood_classify": "classify",
        "score_regress": "regress",
    }


def test_the_encoder_is_stored_once(models, exported):
    encoder = sum(v.value.numpy().nbytes for v in models["mood"].encoder.weights)
    heads = sum(v.value.numpy().nbytes for m in models.values() for v in m.head_weights().values())
    pooler = sum(v.value.numpy().nbytes for v in models["tag"].encoder.pooler.weights)
    reader = tf.train.load_checkpoint(str(exported / "variables" / "variables"))
    stored = sum(reader.get_tensor(n).nbytes for n in reader.get_variable_to_shape_map() if n.startswith("vars/"))
    assert encoder + heads <= stored <= encoder + heads + pooler


def test_encoders_that_differ(models, tiny_folder, tmp_path):
    other = CASES["regression"][0](str(tiny_folder))
    kernel = other.encoder.blocks[1].weights[0]
    kernel.assign(kernel + 1e-3)
    with pytest.raises(InputError, match=r"score and mood share no encoder, since layer_1/\S+ differs: .*frozen"):
        export_heads({"mood": models["mood"], "score": other}, tmp_path / "many")
    assert not (tmp_path / "many").exists()


def test_names():
    check_names(["serving_default", "a_1"])
    for name in ("classify", "", "a b", "1a", "情感"):
        with pytest.raises(InputError, match="cannot name a signature"):
            check_names([name])


def test_two_signatures_of_one_name(models, tmp_path):
    with pytest.raises(InputError, match="two models have a signature 'a_classify'"):
        export_heads({"a": models["mood"], "a_classify": models["score"]}, tmp_path / "many")


def test_the_command(tiny_folder, tmp_path, capsys):
    folders = {"mood": {"labels": ["a", "b"]}, "score": {"problem": "regression"}}
    for name, task in folders.items():
        kbert.BertTextClassifier.from_preset(str(tiny_folder), **task).save_to_preset(tmp_path / name)
        (tmp_path / name / "README.md").write_text(f"# {name}\n")
    (tmp_path / "mood" / "metrics.json").write_text('{"dev": {"accuracy": 0.5}}')
    call = ["export", tmp_path / "mood", tmp_path / "served", "--with", f"score={tmp_path / 'score'}"]
    assert main([str(word) for word in [*call, "--target", "tf-serving==2.20", "--no-verify"]]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["signatures"] == ["classify", "score", "score_regress", "serving_default"]
    assert row["targets"] == ["tf-serving==2.20"]
    folder = tmp_path / "served" / "1"
    assert row["weights_bytes"] == sum(p.stat().st_size for p in (folder / "variables").iterdir())
    assert row["graph_bytes"] == (folder / "saved_model.pb").stat().st_size
    assert (
        row["bytes"] - row["weights_bytes"] - row["graph_bytes"] - row["assets_bytes"]
        == (folder / "fingerprint.pb").stat().st_size
    )
    extra = folder / "assets.extra"
    assert (extra / "README.md").read_text() == "# mood\n"
    assert (extra / "README.score.md").read_text() == "# score\n"
    described = json.loads((extra / "kbert.json").read_text())
    assert described["models"]["serving_default"]["labels"] == ["a", "b"]
    assert described["models"]["serving_default"]["metrics"] == {"dev": {"accuracy": 0.5}}
    assert described["models"]["serving_default"]["max_length"] == 29
    assert described["models"]["score"]["problem"] == "regression"
    assert described["models"]["score"]["dtype"] == "float32"
    assert described["signatures"]["score_regress"] == "tensorflow/serving/regress"
    assert main([str(word) for word in [*call, "--target", "tf-serving==1"]]) == 2
    assert main([str(word) for word in [*call, "--version", 2, "--with", f"score={tmp_path / 'score'}"]]) == 2
    assert "score names two models" in capsys.readouterr().err
