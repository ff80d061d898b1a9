"""The commands as a user gives them: stdout is JSON, stderr the rest, and wrong input is one line and exit code 2."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from kbert.cli import main


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def rows(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def one_line(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("kbert: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture(scope="module")
def trained(steady_folder, review_files, tmp_path_factory) -> Path:
    """A run of `kbert finetune` with settings from a file and from flags."""
    folder = tmp_path_factory.mktemp("runs")
    train, dev = review_files
    config = folder / "settings.toml"
    config.write_text(
        f'model = "{steady_folder}"\ntrain = "{train}"\nepochs = 99\nlearning-rate = 0.01\nbatch-size = 4\n'
    )
    flags = ["--dev", dev, "--out", folder / "run", "--epochs", 30, "--max-length", 16, "--checkpoint-steps", 0]
    assert run("finetune", "classify", "--config", config, *flags) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def saved_models(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved_models")
    assert run("export", trained, folder / "mood") == 0
    return folder


def test_finetune(trained):
    settings = (trained / "settings.toml").read_text()
    assert "epochs = 30\n" in settings  # the flag wins over the file
    assert "learning-rate = 0.01\n" in settings
    assert json.loads((trained / "metrics.json").read_text())["dev"]["accuracy"] == 1.0


def test_evaluate(trained, review_files, capsys):
    assert run("evaluate", trained, review_files[1]) == 0
    (metrics,) = rows(capsys)
    saved = json.loads((trained / "metrics.json").read_text())["dev"]
    assert metrics["accuracy"] == saved["accuracy"]
    assert metrics["loss"] == pytest.approx(saved["loss"], rel=1e-5)
    assert (metrics["examples"], metrics["skipped_lines"]) == (5, 0)


def test_predict_reads_lines_and_tables(trained, review_files, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("good film\n\n我不爱电影\n", encoding="utf8")
    assert run("predict", trained, texts) == 0
    answers = rows(capsys)
    assert [row["text"] for row in answers] == ["good film", "", "我不爱电影"]
    assert answers[0]["label"] == "positive"
    assert answers[0]["score"] == pytest.approx(max(answers[0]["probabilities"]))
    assert run("predict", trained, review_files[1]) == 0
    assert len(rows(capsys)) == 5


def test_predict_reads_stdin(trained):
    process = subprocess.run(
        [sys.executable, "-m", "kbert.cli", "predict", trained], input="bad film\n", capture_output=True, text=True
    )
    assert process.returncode == 0
    assert json.loads(process.stdout)["label"] == "negative"


def test_export_says_what_it_wrote(saved_models, trained, capsys):
    assert run("export", trained, saved_models / "mood", "--version", 2, "--no-verify") == 0
    (row,) = rows(capsys)
    assert row["folder"] == str(saved_models / "mood" / "2")
    assert row["verified"] is False
    assert row["bytes"] == sum(p.stat().st_size for p in (saved_models / "mood" / "2").rglob("*") if p.is_file())


def test_export_as_a_hugging_face_folder(trained, tmp_path, capsys):
    target = tmp_path / "converted"
    assert run("export", trained, target, "--format", "huggingface") == 0
    assert rows(capsys) == [{"folder": str(target), "task": "classify"}]
    names = {"config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in target.iterdir()} == names
    for name in names:
        assert (target / name).read_bytes() == (trained / name).read_bytes()
    assert run("export", trained, target, "--format", "huggingface") == 2
    assert "is there already: name a new folder" in one_line(capsys)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--quantize", "int8"], "--quantize is for --format litert, not saved-model"),
        (["--format", "litert", "--with", "a=b"], "--with is for --format saved-model, not litert"),
        (["--format", "litert", "--version", 2], "--version is for --format saved-model, not litert"),
        (["--format", "huggingface", "--length", 9], "--length is for --format litert, not huggingface"),
    ],
)
def test_export_refuses_what_another_format_is_told(flags, complaint, trained, tmp_path, capsys):
    assert run("export", trained, tmp_path / "target", *flags) == 2
    assert complaint in one_line(capsys)
    assert not (tmp_path / "target").exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_serve_and_ask_answer_as_predict_does(saved_models, trained, tmp_path, capsys):
    """A server in a process of its own, asked over gRPC and REST; both equal `predict`."""
    texts = ["good film", "电影不好看", "", "the plot was dull"]
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts) + "\n", encoding="utf8")
    assert run("predict", trained, file) == 0
    expected = rows(capsys)
    grpc_port, rest_port = free_port(), free_port()
    ports = ["--grpc-port", str(grpc_port), "--rest-port", str(rest_port)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    server = subprocess.Popen(
        [sys.executable, "-m", "kbert.cli", "serve", saved_models, *ports],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        # The line that says where it listens comes when it does.
        while f"127.0.0.1:{grpc_port}" not in (line := server.stderr.readline()):
            assert line, "the server ended"
        for target in (f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{rest_port}"):
            assert run("ask", "mood", *texts, "--target", target) == 0
            answers = rows(capsys)
            assert [row["text"] for row in answers] == texts
            for answer, want in zip(answers, expected, strict=True):
                assert answer["label"] == want["label"]
                np.testing.assert_allclose(answer["probabilities"], want["probabilities"], atol=1e-5)
                assert answer["score"] == pytest.approx(want["score"], abs=1e-5)
        assert run("ask", "nothing", "good", "--target", f"127.0.0.1:{grpc_port}") == 2
        assert "nothing" in one_line(capsys)
        url = f"http://127.0.0.1:{rest_port}/v1/models/mood"
        with urllib.request.urlopen(url) as answer:  # a client that we did not write
            assert json.load(answer)["model_version_status"][0]["state"] == "AVAILABLE"
        assert run("serve", saved_models, *ports) == 2
        assert "Address already in use" in one_line(capsys)
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert server.returncode == 0


def test_presets(capsys):
    assert run("presets", "--language", "zh", "--task", "classify") == 0
    presets = rows(capsys)
    assert {row["language"] for row in presets} <= {"zh", "multilingual"}
    assert "simbert-tiny-zh" in {row["name"] for row in presets}
    assert {"source", "licence", "parameters", "download_mb"} <= presets[0].keys()


@pytest.fixture
def corpus(tmp_path) -> list[Path]:
    """Plain text, compressed text, and a table whose labels are not text."""
    plain, packed, table = tmp_path / "a.txt", tmp_path / "b.txt.gz", tmp_path / "c.tsv"
    plain.write_text("The cat sat.\r\n\nthe mat, THE hat", encoding="utf-8-sig")
    packed.write_bytes(gzip.compress("我爱猫。我爱电影。\n".encode()))
    table.write_text("label\tbody\nzzzz\ta cat\nzzzz\tthat cat\n", encoding="utf8")
    return [plain, packed, table]


def test_vocab(corpus, tmp_path, capsys):
    out = tmp_path / "new" / "vocab.txt"
    command = ["vocab", *corpus, "--text-column", "body", "--out", out]
    assert run(*command, "--size", 127) == 0
    (row,) = rows(capsys)
    tokens = out.read_text(encoding="utf8").removesuffix("\n").split("\n")
    assert tokens[:2] == ["[PAD]", "[unused0]"]
    assert tokens[99:104] == ["[unused98]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = "a c e h t 。 我 爱".split()
    assert tokens[104:] == [*characters, "##a", "##e", "##h", "##t", "##at", "th", "cat", "the"]
    left_out = set("s.m,猫电影")
    assert row == {
        "vocabulary": str(out),
        "tokens": 120,
        "characters": len(characters),
        "characters_left_out": len(left_out),
        "words": 22,
        "distinct_words": 15,
        "unknown_words": 7,
    }
    # In a process of its own, with other hashes and threads, the same bytes are written; so there is nothing to refuse.
    written = out.read_bytes()
    environment = {**os.environ, "PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.run(
        [sys.executable, "-m", "kbert.cli", *command, "--size", "127"], env=environment, capture_output=True, text=True
    )
    assert (process.returncode, json.loads(process.stdout)) == (0, row)
    assert out.read_bytes() == written
    assert [path.name for path in out.parent.iterdir()] == ["vocab.txt"]
    assert run(*command, "--size", 127, "--cased") == 2
    assert "vocab.txt exists and holds something else: remove it" in one_line(capsys)
    assert out.read_bytes() == written


# === Wrong input ===


def test_vocab_of_a_corpus_that_cannot_be_read(corpus, tmp_path, capsys):
    out = tmp_path / "new" / "vocab.txt"
    assert run("vocab", corpus[0], tmp_path / "x.txt", "--out", out) == 2
    assert "x.txt does not exist" in one_line(capsys)
    assert run("vocab", corpus[0], "--text-column", "body", "--out", out) == 2
    assert "no CORPUS has columns" in one_line(capsys)
    assert run("vocab", corpus[0], "--out", tmp_path) == 2
    assert "is a folder: name the file" in one_line(capsys)
    assert run("vocab", corpus[0], "--size", 110, "--out", out) == 2
    assert "give a size of at least 112" in one_line(capsys)
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"good\ncaf\xe9\n")
    assert run("vocab", corpus[0], bad, "--out", out) == 2
    assert "bad.txt:2: byte 0xe9 is not UTF-8" in one_line(capsys)
    assert list(out.parent.iterdir()) == []


def test_a_label_column_that_does_not_exist(trained, review_files, capsys):
    assert run("evaluate", trained, review_files[1], "--label-column", "mood") == 2
    assert "has no column 'mood'; it has 'text', 'label'" in one_line(capsys)


def test_a_label_that_the_model_lacks(trained, tmp_path, capsys):
    file = tmp_path / "a.tsv"
    file.write_text("text\tlabel\ngood\tneutral\n")
    assert run("evaluate", trained, file) == 2
    assert "a.tsv:2: label 'neutral' is none of the model's: negative, positive" in one_line(capsys)


def test_a_preset_that_does_not_exist(capsys, tmp_path):
    (tmp_path / "x.txt").write_text("a\n")
    assert run("predict", "minilm-l6-fr", tmp_path / "x.txt") == 2
    assert "minilm-l6-en" in one_line(capsys)  # the nearest name


def test_an_export_target_that_exists(saved_models, trained, capsys):
    assert run("export", trained, saved_models / "mood") == 2
    assert "holds version 1 already: add --version" in one_line(capsys)


def test_columns_of_a_file_that_has_none(trained, tmp_path, capsys):
    (tmp_path / "x.txt").write_text("a\n")
    assert run("predict", trained, tmp_path / "x.txt", "--text-column", "body") == 2
    assert "one text a line, without columns" in one_line(capsys)


def test_a_reader_that_goes_away(capfd):
    command = f"{sys.executable} -m kbert.cli presets | true"
    assert subprocess.run(["bash", "-o", "pipefail", "-c", command], check=False).returncode == 0
    assert capfd.readouterr().err == ""


def test_missing_settings(capsys):
    assert run("finetune", "classify", "--epochs", 3) == 2
    assert "--model, --train, --dev, --out are missing" in one_line(capsys)


def test_pairs_that_do_not_match(capsys):
    assert run("ask", "mood", "a", "b", "--pair", "c") == 2
    assert "1 for 2 texts" in one_line(capsys)


def test_asking_models_that_read_two_texts(tiny_folder, tmp_path, capsys):
    import kbert
    from kbert.export.saved_model import export_saved_model
    from kbert.serving.server import ModelServer

    reader = kbert.BertQuestionAnswerer.from_preset(str(tiny_folder), max_length=16)
    export_saved_model(reader, tmp_path / "reader", verify=False)
    with ModelServer(tmp_path, grpc_port=0, rest_port=0) as server:
        target = ("--target", f"127.0.0.1:{server.grpc_port}")
        assert run("ask", "reader", "good film", "--question", "was", *target) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.keys() == {"question", "context", "answer", "start", "end", "score"}
    assert "good film"[answer["start"] : answer["end"]] == answer["answer"]


def test_no_server(capsys):
    assert run("ask", "mood", "good", "--target", f"127.0.0.1:{free_port()}", "--timeout", 2) == 1
    assert "127.0.0.1" in one_line(capsys)


def test_a_folder_without_models(tmp_path, capsys):
    assert run("serve", tmp_path) == 2
    assert "no model" in one_line(capsys)


@pytest.mark.parametrize(
    "arguments", [["export", "a"], ["finetune"], ["nothing"], ["predict", "a", "--batch-size", "0"]]
)
def test_a_wrong_call_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        run(*arguments)
    assert exit.value.code == 2
    assert "--help` says more" in one_line(capsys)
