"""Models trained from scratch: any architecture, named or in a file, on a vocabulary of the user's."""

from __future__ import annotations

import json

import pytest

from kbert import cli
from kbert.checkpoints import presets

LIGHT = {"encoder_type": "bilstm", "num_layers": 1, "num_heads": 3, "hidden_dim": 12, "intermediate_dim": 1}
STEADY = {"max_sequence_length": 29, "dropout_rate": 0.0, "attention_dropout_rate": 0.0, "initializer_range": 0.4}
TAGS = "good O\nfilm B-thing\n\nvery O\ndull B-mood\n\nthe O\nplot B-thing\nwas O\nbad B-mood\n"


@pytest.fixture
def light(tmp_path):
    """The config of a light encoder, and a vocabulary."""
    path = tmp_path / "light.json"
    path.write_text(json.dumps(LIGHT | STEADY))
    return path


@pytest.fixture
def vocab(tmp_path, tiny_vocabulary):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(tiny_vocabulary) + "\n", encoding="utf8")
    return path


@pytest.fixture
def tag_file(tmp_path):
    path = tmp_path / "tags.conll"
    path.write_text(TAGS)
    return path


@pytest.fixture
def kbert(capsys):
    """The command line: the JSON object that a command prints, or the line that it complains with."""

    def run(*arguments):
        code = cli.main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return json.loads(captured.out) if code == 0 else captured.err.splitlines()[-1]

    return run


def flags(out, train, dev, **others):
    settings = {"train": train, "dev": dev, "out": out, "max-length": 16, "batch-size": 4} | others
    return [part for name, value in settings.items() for part in (f"--{name}", value)]


def test_a_light_classifier_learns_from_scratch(light, vocab, review_files, kbert, tmp_path, caplog):
    options = flags(tmp_path / "run", *review_files, epochs=30, **{"learning-rate": 0.01})
    record = kbert("finetune", "classify", "--model", light, "--vocab", vocab, *options)
    assert record["dev"]["accuracy"] == 1.0
    assert "random values" not in caplog.text, "that is no news of a fresh model"
    assert kbert("evaluate", tmp_path / "run", review_files[1])["accuracy"] == 1.0
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"Trained from scratch with kbert (`{light}`, vocabulary `{vocab}`)." in card
    assert kbert("finetune", "classify", "--model", light, "--vocab", vocab, *options) == record
    light.write_text(json.dumps(LIGHT | STEADY | {"num_heads": 2}))
    assert "a run on other data" in kbert("finetune", "classify", "--model", light, "--vocab", vocab, *options)


def test_a_light_tagger_learns_from_scratch(light, vocab, tag_file, kbert, tmp_path):
    options = flags(tmp_path / "run", tag_file, tag_file, epochs=60, **{"learning-rate": 0.02})
    record = kbert("finetune", "tag", "--model", light, "--vocab", vocab, *options)
    assert record["dev"]["f1"] == 1.0
    assert kbert("evaluate", tmp_path / "run", tag_file)["f1"] == 1.0
    assert presets.load(tmp_path / "run").config.encoder_type == "bilstm"


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("answer", {"question": "film", "context": "good film", "answers": [{"text": "film", "answer_start": 5}]}),
        ("embed", {"text": "good film", "text_pair": "a good film", "score": 0.9}),
    ],
)
def test_the_other_tasks_from_scratch(light, vocab, kbert, tmp_path, task, row):
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps(row) + "\n")
    record = kbert("finetune", task, "--model", light, "--vocab", vocab, *flags(tmp_path / "run", data, data, epochs=1))
    assert kbert("evaluate", tmp_path / "run", data)["loss"] == pytest.approx(record["dev"]["loss"], rel=1e-4)


def test_a_named_size_and_a_cased_vocabulary(vocab, review_files, kbert, tmp_path):
    options = flags(tmp_path / "run", *review_files, epochs=1)
    kbert("finetune", "classify", "--model", "tiny", "--vocab", vocab, "--cased", *options)
    saved = presets.load(tmp_path / "run")
    assert (saved.config.num_layers, saved.config.hidden_dim) == (2, 128)
    assert not saved.tokenizer.do_lower_case


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "minilm-l6-en", "--vocab", "v"), "minilm-l6-en brings its own vocabulary: leave --vocab away"),
        (("--model", "tiny"), "--model tiny is a fresh model, which needs a vocabulary: add --vocab FILE"),
        (("--model", "a/b.json"), "--model a/b.json is a fresh model, which needs a vocabulary: add --vocab FILE"),
        (("--model", "minilm-l6-en", "--cased"), "--cased goes with --vocab"),
        (("--model", "tiny", "--vocab", "nowhere.txt"), "nowhere.txt does not exist"),
        (("--model", "nowhere.json", "--vocab", "VOCAB"), "nowhere.json does not exist"),
    ],
)
def test_starts_that_are_none(vocab, kbert, arguments, message):
    arguments = [vocab if argument == "VOCAB" else argument for argument in arguments]
    for task in ("classify", "tag"):
        assert message in kbert("finetune", task, *arguments, "--train", "t", "--dev", "d", "--out", "o")
