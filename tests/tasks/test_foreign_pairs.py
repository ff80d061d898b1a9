"""Classifiers of pairs that another library has trained: their folders do not say that they read two texts."""

from __future__ import annotations

import json

import keras
import pytest
import tensorflow as tf

import kbert
from kbert import cli

ROWS = [("good film", "a good film", "same"), ("bad film", "the plot was fine", "other"), ("dull", "not good", "other")]


@pytest.fixture(scope="module")
def folders(tiny_folder, tmp_path_factory):
    """A classifier of pairs, as kbert and as transformers saves it."""
    keras.utils.set_random_seed(3)
    model = kbert.BertTextClassifier.from_preset(str(tiny_folder), ["other", "same"], pair=True, max_length=16)
    own, foreign = (tmp_path_factory.mktemp("pairs") / name for name in ("own", "foreign"))
    model.save_to_preset(own)
    model.save_to_preset(foreign)
    keys = json.loads((foreign / "config.json").read_text())
    del keys["kbert"]
    (foreign / "config.json").write_text(json.dumps(keys))
    return own, foreign


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join("\t".join(row) for row in [("text", "text_pair", "label"), *ROWS]) + "\n")
    return path


def run(capsys, *arguments):
    """The exit code, and the JSON objects or the complaint of a command."""
    code = cli.main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.err if code else [json.loads(line) for line in captured.out.splitlines()]


def test_they_answer_as_where_the_folder_says_it(folders, pairs, capsys):
    own, foreign = folders
    expected, answers = run(capsys, "predict", own, pairs), run(capsys, "predict", foreign, pairs, "--pair")
    assert answers == expected
    assert [row["text_pair"] for row in answers[1]] == [row[1] for row in ROWS]
    assert run(capsys, "evaluate", foreign, pairs, "--pair") == run(capsys, "evaluate", own, pairs)


def test_they_are_exported_with_both_inputs(folders, tmp_path, capsys):
    assert run(capsys, "export", folders[1], tmp_path / "pairs", "--pair", "--no-verify", "--no-warmup")[0] == 0
    signature = tf.saved_model.load(str(tmp_path / "pairs" / "1")).signatures["serving_default"]
    assert signature.structured_input_signature[1].keys() == {"text", "text_pair"}
    code, rows = run(capsys, "export", folders[1], tmp_path / "a.tflite", "--format", "litert", "--pair")
    assert (code, rows[0]["apps"]) == (0, ["LiteRT"]), "no app's library has a second text"


def test_the_flag_and_the_file_must_go_together(folders, pairs, tiny_folder, tmp_path, capsys):
    single = tmp_path / "single.tsv"
    single.write_text("text\tlabel\ngood\tsame\n")
    for command in ("predict", "evaluate"):
        code, complaint = run(capsys, command, folders[1], pairs)
        assert (code, complaint.count("\n")) == (2, 1)
        assert (
            f"{pairs} has a second text, which this model does not read: leave that column away, or say with"
            in complaint
        )
        code, complaint = run(capsys, command, folders[1], single, "--pair")
        assert (code, complaint.count("\n")) == (2, 1)
        assert f"{single} has no second text, which this model reads" in complaint


def test_the_flag_is_for_classifiers(tiny_folder, pairs, tmp_path, capsys):
    folder = tmp_path / "tagger"
    kbert.BertTokenClassifier.from_preset(str(tiny_folder), ["O", "B-X", "I-X"], max_length=16).save_to_preset(folder)
    for arguments in (("predict", folder, pairs), ("evaluate", folder, pairs), ("export", folder, tmp_path / "out")):
        code, complaint = run(capsys, *arguments, "--pair")
        assert code == 2
        assert (
            complaint
            == f"kbert: --pair is for classifiers, and {folder} holds a model of the task tag: leave it away\n"
        )
