"""`kbert export --format litert`: what it writes and says, and what it refuses."""

from __future__ import annotations

import json

import pytest
from mobile.cases import LABELS, TEXTS

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
