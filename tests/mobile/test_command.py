"""`kbert export --format litert`: what it writes and says, and what it refuses."""

from __future__ import annotations

import json
import re
import sys

import pytest
from mobile.cases import FORMLESS, LABELS, TEXTS

from kbert.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite:UserWarning", "ignore:.*Interpreter:UserWarning")


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


def refused(capsys, tmp_path, *arguments) -> str:
    """The one line that refuses an export, of which nothing is left."""
    before = sorted(tmp_path.rglob("*"))
    assert main(["export", *map(str, arguments), "--format", "litert"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("kbert: ")
    assert captured.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    return captured.err.removeprefix("kbert: ").rstrip("\n")


def test_rows_longer_than_the_position_table(run_folder, tmp_path, capsys):
    found = refused(capsys, tmp_path, run_folder, tmp_path / "mood.tflite", "--length", 30)
    assert found == (f"{run_folder}: its position table has 29 rows, too few for 30 tokens: give --length 29 or less")
    found = refused(capsys, tmp_path, run_folder, tmp_path / "mood.tflite", "--length", 2)
    assert found == "ClassifyConfig: `max_length` must be at least 3. Received: 2"


@pytest.mark.parametrize("kind", FORMLESS)
def test_models_without_a_form(tiny_folder, tmp_path, capsys, kind):
    make, complaint = FORMLESS[kind]
    folder = tmp_path / "run"
    make(str(tiny_folder)).save_to_preset(folder)
    found = refused(capsys, tmp_path, folder, tmp_path / "mood.tflite")
    assert re.match(f"{re.escape(str(folder))}: {complaint}", found)


def test_a_target_that_cannot_be_written(run_folder, tmp_path, capsys, monkeypatch):
    """Refused before the model is looked for."""
    absent, file = tmp_path / "absent", tmp_path / "file"
    file.write_text("")
    assert refused(capsys, tmp_path, absent, tmp_path) == f"{tmp_path} is a folder: name a file"
    found = refused(capsys, tmp_path, absent, file / "mood.tflite")
    assert re.fullmatch(re.escape(str(file)) + r" cannot be made a folder \(.+\): choose another target", found)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    found = refused(capsys, tmp_path, absent, tmp_path / "mood.tflite")
    assert found == f"{tmp_path} cannot be written to: choose another target or change its permissions"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("empty.txt", "", "empty.txt is empty"),
        ("empty.tsv", "", "empty.tsv is empty"),
        ("header.tsv", "text\n", "header.tsv holds no record"),
        ("blank.txt", "\n \n\n", "blank.txt holds blank texts alone"),
        ("absent.txt", None, "absent.txt .*No such file"),
    ],
)
def test_calibration_without_texts(run_folder, tmp_path, capsys, name, content, complaint):
    file = tmp_path / name
    if content is not None:
        file.write_text(content)
    flags = ["--quantize", "full-int8", "--calibration", file]
    found = refused(capsys, tmp_path, run_folder, tmp_path / "mood.tflite", *flags)
    mend = "; give --calibration a file of some 200 texts like those to come"
    assert re.fullmatch(f"{re.escape(str(tmp_path))}/{complaint}.*{mend}", found)


def test_calibration_where_it_does_not_belong(run_folder, tmp_path, capsys):
    target = tmp_path / "mood.tflite"
    assert "add --calibration FILE" in refused(capsys, tmp_path, run_folder, target, "--quantize", "full-int8")
    flags = ["--quantize", "int8", "--calibration", tmp_path / "texts.txt"]
    assert "leave it away" in refused(capsys, tmp_path, run_folder, target, *flags)


def test_a_report_without_the_package(run_folder, tmp_path, capsys, monkeypatch):
    """Known before the file is made."""
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    found = refused(capsys, tmp_path, run_folder, tmp_path / "mood.tflite", "--report", tmp_path / "dev.tsv")
    assert found == "--report needs ai-edge-litert: pip install ai-edge-litert"
