"""`kbert pretrain` from files to a folder: what is written, what is seen, and input that makes no run."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
from collections import Counter

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

import kbert
from kbert import cli
from kbert.checkpoints.huggingface_tokenizer import read_vocabulary
from kbert.pretraining import run
from kbert.pretraining.batches import Position
from kbert.pretraining.corpus import batches_of, corpus_of
from kbert.pretraining.run import rounds
from kbert.pretraining.settings import PretrainSettings
from kbert.tokenization.tokenizer import BertTokenizer


def one_line(capsys, *arguments) -> str:
    assert cli.main(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last.startswith("kbert: ")
    assert "Traceback" not in captured.err
    return last


def history(folder) -> list[dict[str, float]]:
    with (folder / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


# === What a run writes ===


def test_a_run_writes_a_whole_folder(finished):
    assert sorted(path.name for path in finished.iterdir()) == [
        "README.md",
        "config.json",
        "corpus",
        "data.json",
        "history.csv",
        "metrics.json",
        "model.safetensors",
        "settings.toml",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    metrics = json.loads((finished / "metrics.json").read_text())
    rows = history(finished)
    best = min(rows, key=lambda row: row["val_loss"])
    assert metrics["step"] == best["step"]
    assert metrics["held_out"]["loss"] == best["val_loss"]
    assert metrics["tokens"] == rows[-1]["tokens"]
    card = (finished / "README.md").read_text()
    assert f"| loss | {metrics['held_out']['loss']:.4f} |" in card
    assert "No sequence was longer than 32 tokens" in card


def test_the_history_has_a_row_for_each_evaluation(finished):
    rows = history(finished)
    assert [row["step"] for row in rows] == [6, 12, 14]
    assert [row["length"] for row in rows] == [16, 32, 32]
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.01 * left / 13 for left in (8, 2, 0)])
    assert rows[-1]["val_loss"] < rows[0]["val_loss"] < math.log(99)
    # A step's tokens are 512, give or take a sequence; an epoch's last step may have less.
    assert 6 * 400 < rows[0]["tokens"] < 6 * 544


def test_the_model_fills_masks(finished):
    model = kbert.BertMaskedLM.from_preset(str(finished))
    assert model.task.max_length == 32
    answer = model.predict(["good [MASK] was"])
    assert answer["token"].shape == (1, 1, 5)
    assert set(answer["token"].ravel()) <= set(model.tokenizer.vocabulary)
    assert (np.diff(answer["score"][0, 0]) <= 0).all()


def test_a_finished_run_is_not_repeated(arguments, finished, capsys, caplog, monkeypatch):
    monkeypatch.setattr(run, "corpus_of", None)
    with caplog.at_level("INFO"):
        assert cli.main([*arguments, "--out", str(finished)]) == 0
    assert f"{finished} is finished already" in caplog.text
    assert json.loads(capsys.readouterr().out) == json.loads((finished / "metrics.json").read_text())


def test_a_run_from_its_own_settings(finished, tmp_path, capsys):
    out = tmp_path / "again"
    assert cli.main(["pretrain", "--config", str(finished / "settings.toml"), "--out", str(out)]) == 0
    assert (out / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("step", "steps", "every", "expected"),
    [
        (0, 14, 6, [(0, 2, 6), (2, 3, 2)]),
        (4, 14, 6, [(0, 1, 2), (1, 2, 6), (2, 3, 2)]),
        (6, 12, 6, [(1, 2, 6)]),
        (13, 14, 6, [(2, 3, 1)]),
        (0, 3, 6, [(0, 1, 3)]),
        (1, 3, 6, [(0, 1, 2)]),
        (14, 14, 6, []),
    ],
)
def test_rounds(step, steps, every, expected):
    assert list(rounds(step, steps, every)) == expected


# === What a run sees ===


def test_the_position_follows_from_the_step(arguments, tmp_path, monkeypatch):
    seen = []

    class Spying(run.PretrainingState):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            seen.append((self.step, self.position))

    monkeypatch.setattr(run, "PretrainingState", Spying)
    flags = ["--lengths", "16", "--evaluation-steps", "100", "--steps", "20"]
    assert cli.main([*arguments, *flags, "--out", str(tmp_path / "run")]) == 0
    assert [step for step, _ in seen] == list(range(1, 21))
    steps_of_epoch = Counter(position.epoch for _, position in seen)
    assert steps_of_epoch[0] == steps_of_epoch[1] > 2
    done = {position.epoch: position.tokens for _, position in seen}
    assert done[1] == 2 * done[0], "an epoch has all tokens of the one before"


def test_an_epoch_holds_each_sequence_once(finished):
    """In another order than the next; a stage begins an epoch; and one can begin anywhere."""
    settings = dataclasses.replace(PretrainSettings.from_toml(finished / "settings.toml"), steps=40)
    tokenizer = BertTokenizer(read_vocabulary(finished))
    data, _ = batches_of(settings, corpus_of(settings, tokenizer, tf.distribute.get_strategy()), tokenizer)
    epochs = list(data.epochs())
    assert [epoch.number for epoch in epochs] == list(range(len(epochs)))
    for length in (16, 32):
        of_stage = [epoch for epoch in epochs if epoch.length == length]
        assert sum(len(epoch.batches) for epoch in of_stage) == 20
        first, second, *_ = of_stage
        assert sorted(np.concatenate(first.batches)) == list(range(len(first.sequences)))
        assert list(first.batches[0]) != list(second.batches[0])
    later = list(data.epochs(Position(epochs[1].number, epochs[1].first_step)))
    assert [epoch.number for epoch in later] == [epoch.number for epoch in epochs[1:]]
    for left, right in zip(later, epochs[1:], strict=True):
        assert list(map(list, left.batches)) == list(map(list, right.batches))


# === A model to go on from ===


def test_a_model_is_pretrained_further(arguments, finished, tmp_path):
    place = arguments.index("--vocab")
    command = [*arguments[:place], "--model", str(finished), *arguments[place + 4 :]]
    flags = ["--steps", "2", "--learning-rate", "1e-4", "--out", str(tmp_path / "further")]
    assert cli.main([*command, *flags]) == 0
    before, after = (json.loads((folder / "metrics.json").read_text()) for folder in (finished, tmp_path / "further"))
    # It begins with what the model knows: two steps on fresh weights are far from it.
    assert after["held_out"]["loss"] < before["held_out"]["loss"] + 0.05
    assert "pretrained further from" in (tmp_path / "further" / "README.md").read_text()


def test_an_encoder_without_a_head_is_pretrained_further(tiny_folder, files, tmp_path):
    flags = ["--batch-tokens", "512", "--steps", "1", "--lengths", "16", "--held-out", "0.1", "--processes", "1"]
    command = ["pretrain", str(files / "corpus.txt"), "--model", str(tiny_folder), "--out", str(tmp_path / "run")]
    assert cli.main([*command, *flags, "--learning-rate", "1e-9"]) == 0
    got = safetensors.numpy.load_file(tmp_path / "run" / "model.safetensors")
    expected = safetensors.numpy.load_file(tiny_folder / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    np.testing.assert_allclose(got[f"bert.{name}"], expected[name], atol=1e-6)


# === Options ===


@pytest.mark.parametrize(
    "flags",
    [
        ("--pairs", "nsp"),
        ("--pairs", "sop"),
        ("--across-documents",),
        ("--decay", "cosine", "--gradient-accumulation-steps", "2"),
        ("--mask-unit", "span"),
        ("--layout", "lines"),
        ("--precision", "mixed_float16"),
        ("--xla", "on", "--lengths", "32", "--pairs", "sop"),
    ],
    ids=" ".join,
)
def test_options_make_another_run(arguments, finished, tmp_path, flags):
    out = tmp_path / "run"
    assert cli.main([*arguments, *flags, "--steps", "4", "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert 0 < metrics["held_out"]["loss"] < 8
    assert ("pair_accuracy" in metrics["held_out"]) == ("--pairs" in flags)


# === Input that makes no run ===


def test_an_empty_corpus(arguments, tmp_path, capsys):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    message = one_line(capsys, "pretrain", empty, *arguments[2:], "--out", tmp_path / "run")
    assert f"{empty} is empty" in message
    assert not list((tmp_path / "run").glob("*"))


def test_a_corpus_of_one_document(arguments, tmp_path, capsys):
    single = tmp_path / "single.txt"
    single.write_text("good film .\n")
    message = one_line(capsys, "pretrain", single, *arguments[2:], "--out", tmp_path / "run")
    assert "the held-out part of the corpus is empty" in message
    # What was wrong can be mended under the same name.
    single.write_text("good film .\n\nbad film .\n\nthe plot was fine\n")
    assert cli.main(["pretrain", str(single), *arguments[2:], "--steps", "2", "--out", str(tmp_path / "run")]) == 0


def test_files_that_there_are_not(arguments, tmp_path, capsys):
    out = ("--out", tmp_path / "run")
    assert "nowhere.txt does not exist" in one_line(capsys, "pretrain", "nowhere.txt", *arguments[2:], *out)
    assert "nowhere.txt does not exist" in one_line(capsys, *arguments, "--vocab", "nowhere.txt", *out)
    assert "nowhere.json does not exist" in one_line(capsys, *arguments, "--size", "nowhere.json", *out)
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_without_a_mask(arguments, files, tmp_path, capsys):
    tokens = (files / "vocab.txt").read_text(encoding="utf8").replace("[MASK]\n", "")
    (tmp_path / "vocab.txt").write_text(tokens, encoding="utf8")
    command = (*arguments, "--vocab", tmp_path / "vocab.txt", "--out", tmp_path / "run")
    assert "vocab.txt has no token [MASK]" in one_line(capsys, *command)


def test_lengths_above_the_position_table(arguments, tmp_path, capsys):
    message = one_line(capsys, *arguments, "--lengths", 65, "--out", tmp_path / "run")
    assert "--lengths must be at most 64, the rows of the model's position table. Received: 65" in message
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_run(arguments, finished, files, tmp_path, capsys):
    message = one_line(capsys, *arguments, "--seed", 1, "--out", finished)
    assert "holds a run with other settings (--seed 0, now 1): choose another --out" in message
    (tmp_path / "size.json").write_text((files / "size.json").read_text())
    command = (*arguments, "--size", tmp_path / "size.json", "--steps", 2, "--out", tmp_path / "run")
    assert cli.main(list(map(str, command))) == 0
    capsys.readouterr()
    sizes = json.loads((files / "size.json").read_text())
    (tmp_path / "size.json").write_text(json.dumps(sizes | {"intermediate_dim": 38}))
    assert "holds a run on other data (a file has changed since)" in one_line(capsys, *command)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("mine")
    assert "is not empty and holds no run of kbert" in one_line(capsys, *arguments, "--out", tmp_path / "thesis")


def test_a_corpus_that_has_changed(arguments, files, tmp_path, capsys):
    corpus = tmp_path / "corpus.txt"
    shutil.copy(files / "corpus.txt", corpus)
    command = ["pretrain", str(corpus), *arguments[2:], "--out", str(tmp_path / "run")]
    assert cli.main([*command, "--steps", "2"]) == 0
    capsys.readouterr()
    (tmp_path / "run" / "config.json").unlink()
    corpus.write_text(corpus.read_text(encoding="utf8") + "more .\n", encoding="utf8")
    assert f"{corpus}: a corpus file changed" in one_line(capsys, *command, "--steps", 2)


def test_a_run_that_diverges_stops(arguments, tmp_path, capsys):
    message = one_line(capsys, *arguments, "--learning-rate", "1e30", "--warmup-rate", 0, "--out", tmp_path / "run")
    assert "lower --learning-rate" in message
