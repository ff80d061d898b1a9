"""Runs of every task, from files to a folder that evaluates and predicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kbert import cli

TEXTS = ["good film", "the plot was bad", "very dull", "我爱电影 film"]
ENTITIES = [[(5, 9, "thing")], [(4, 8, "thing"), (13, 16, "mood")], [(5, 9, "mood")], [(2, 4, "thing")]]
ANSWERS = [("film", 5), ("plot", 4), ("very", 0), ("电影", 2)]


@pytest.fixture
def files(tmp_path):
    """A file for each task, by the task's name and a suffix."""

    def jsonl(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf8")
        return str(path)

    paragraphs = [
        {"context": text, "qas": [{"id": str(i), "question": "film", "answers": [{"text": a, "answer_start": start}]}]}
        for i, (text, (a, start)) in enumerate(zip(TEXTS, ANSWERS, strict=True))
    ]
    squad = tmp_path / "answers.json"
    squad.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf8")
    columns = tmp_path / "tags.conll"
    columns.write_text("good O\nfilm B-thing\n\nvery O\ndull B-mood\n", encoding="utf8")
    tags = [
        {"text": text, "entities": [{"start": s, "end": e, "label": label} for s, e, label in entities]}
        for text, entities in zip(TEXTS, ENTITIES, strict=True)
    ]
    return {
        "tag": jsonl("tags.jsonl", tags),
        "columns": str(columns),
        "answer": str(squad),
        "embed": jsonl("pairs.jsonl", [{"text": t, "text_pair": TEXTS[0], "score": i} for i, t in enumerate(TEXTS)]),
        "many": jsonl("many.jsonl", [{"text": t, "label": ["a", "b"][: i % 3]} for i, t in enumerate(TEXTS)]),
        "number": jsonl("number.jsonl", [{"text": t, "score": i / 2} for i, t in enumerate(TEXTS)]),
    }


@pytest.fixture
def kbert(capsys):
    """The command line: the JSON objects that a command prints."""

    def run(*arguments):
        assert cli.main(list(map(str, arguments))) == 0, capsys.readouterr().err
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def common(folder, data, out):
    return ("--model", folder, "--train", data, "--dev", data, "--out", out, "--epochs", 2, "--batch-size", 2)


@pytest.mark.parametrize(
    ("task", "data", "flags", "metrics", "answer"),
    [
        ("tag", "tag", ("--head", "crf"), {"f1", "precision", "recall", "loss"}, {"text", "entities"}),
        ("tag", "columns", (), {"f1"}, {"text", "entities"}),
        ("answer", "answer", ("--max-answer-length", 5), {"exact_match", "f1", "loss"},
         {"question", "context", "answer", "start", "end", "score"}),
        ("embed", "embed", ("--pooling", "cls"), {"pearson", "spearman", "loss"}, {"text", "embedding"}),
        ("classify", "many", ("--multi-label",), {"exact_match", "micro_f1"}, {"text", "labels", "probabilities"}),
        ("classify", "number", ("--regression",), {"pearson", "spearman"}, {"text", "value"}),
    ],
)  # fmt: skip
def test_a_run_evaluates_and_predicts(tiny_folder, files, kbert, tmp_path, task, data, flags, metrics, answer):
    out = tmp_path / "run"
    arguments = common(tiny_folder, files[data], out)
    (record,) = kbert("finetune", task, *arguments, "--max-length", 16, *flags)
    assert metrics <= record["dev"].keys()
    assert record["train_examples"] == record["dev_examples"] == (2 if data == "columns" else 4)
    assert f"kbert finetune {task} --config settings.toml" in (out / "README.md").read_text()
    (measured,) = kbert("evaluate", out, files[data], "--report")
    for name, value in record["dev"].items():
        assert measured[name] == pytest.approx(value, abs=1e-4), name
    source = files["answer"] if task == "answer" else files["tag" if data == "columns" else data]
    rows = kbert("predict", out, source)
    assert len(rows) == 4
    assert all(row.keys() == answer for row in rows)
    assert kbert("finetune", task, *arguments, "--max-length", 16, *flags) == [record], "it is finished already"


def test_the_best_epoch_is_kept(tiny_folder, files, kbert, tmp_path):
    flags = ("--max-length", 16, "--best-metric", "loss", "--patience", 1, "--learning-rate", 0.5, "--epochs", 9)
    out = tmp_path / "run"
    arguments = ("--model", tiny_folder, "--train", files["tag"], "--dev", files["tag"], "--out", out, *flags)
    (record,) = kbert("finetune", "tag", *arguments)
    rows = (out / "history.csv").read_text().splitlines()
    header, *epochs = [row.split(",") for row in rows]
    losses = [float(row[header.index("val_loss")]) for row in epochs]
    assert record["epoch"] == losses.index(min(losses)) + 1
    assert len(epochs) == min(record["epoch"] + 1, 9)
    (measured,) = kbert("evaluate", out, files["tag"])
    assert measured["loss"] == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize(
    ("task", "data", "flags", "names"),
    [
        ("classify", "many", ("--multi-label",), "loss, accuracy, micro_f1, macro_f1, exact_match"),
        ("classify", "number", ("--regression",), "loss, mean_absolute_error, pearson, spearman"),
        ("tag", "tag", (), "loss, precision, recall, f1, macro_precision, macro_recall, macro_f1"),
        ("answer", "answer", (), "loss, exact_match, f1"),
        ("embed", "embed", (), "loss, pearson, spearman"),
    ],
)
def test_a_metric_that_there_is_not_is_refused_before_training(
    tiny_folder, files, kbert, capsys, tmp_path, task, data, flags, names
):
    arguments = [*common(tiny_folder, files[data], tmp_path / "run"), "--max-length", 16, *flags, "--best-metric"]
    assert cli.main(["finetune", task, *map(str, arguments), "accuracies"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"kbert: --best-metric must be one of {names}, the metrics of this task. Received: 'accuracies'"
    assert not (tmp_path / "run").exists()
    (record,) = kbert("finetune", task, *arguments, names.split(", ")[-1])
    assert set(record["dev"]) == set(names.split(", "))


def test_class_weights(tiny_folder, review_files, kbert, tmp_path):
    train, dev = review_files
    for i, weights in enumerate(("balanced", '{"positive": 2}')):
        flags = ("--train", train, "--dev", dev, "--out", tmp_path / str(i), "--epochs", 1, "--class-weights", weights)
        (record,) = kbert("finetune", "classify", "--model", tiny_folder, *flags, "--max-length", 16)
        assert record["task"] == "classify"


@pytest.mark.parametrize(
    ("task", "flags", "message"),
    [
        ("tag", ("--head", "magic"), "--head must be one of dense, crf, bilstm, bilstm-crf"),
        ("embed", ("--pooling", "max"), "--pooling must be one of mean, cls"),
        ("answer", ("--max-answer-length", "0"), "--max-answer-length must be 1 or more"),
        ("classify", ("--multi-label", "--regression"), "exclude each other"),
        ("classify", ("--class-weights", "heavy"), 'must be "balanced" or a JSON object'),
        ("classify", ("--regression", "--class-weights", "balanced"), "for texts of one label each"),
    ],
)
def test_settings_that_make_no_run(capsys, task, flags, message):
    assert cli.main(["finetune", task, "--model", "m", "--train", "t", "--dev", "d", "--out", "o", *flags]) == 2
    assert message in capsys.readouterr().err


def test_files_that_do_not_go_together(tiny_folder, files, capsys, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"text": "good", "entities": [{"start": 0, "end": 4, "label": "new"}]}) + "\n")
    arguments = [
        "--model",
        str(tiny_folder),
        "--train",
        files["tag"],
        "--dev",
        str(other),
        "--out",
        str(tmp_path / "o"),
    ]
    assert cli.main(["finetune", "tag", *arguments]) == 2
    assert f"{other}:1: label 'new' does not occur in the training file" in capsys.readouterr().err
    single = tmp_path / "single.tsv"
    single.write_text("text\tscore\ngood\t1\n")
    arguments = ["--model", str(tiny_folder), "--train", files["embed"], "--dev", str(single), "--out", "o"]
    assert cli.main(["finetune", "embed", *arguments]) == 2
    assert "has no second text" in capsys.readouterr().err


def test_tags_that_begin_with_the_inside_are_repaired_and_named(tiny_folder, files, kbert, tmp_path, caplog):
    broken = tmp_path / "broken.conll"
    broken.write_text("good O\nfilm B-thing\n\nvery O\ndull I-mood\n\nbad I-mood\n\nplot B-thing\ns I-thing\n")
    flags = ("--train", broken, "--dev", files["columns"], "--out", tmp_path / "run", "--epochs", 1, "--max-length", 16)
    (record,) = kbert("finetune", "tag", "--model", tiny_folder, *flags)
    assert record["repaired_entities"] == 2
    assert f"{broken}:4: 2 repaired entities, the first in the sentence that begins here" in caplog.text


def test_pairs_without_scores_train_an_embedder(tiny_folder, files, kbert, tmp_path):
    pairs = tmp_path / "alike.jsonl"
    pairs.write_text("".join(json.dumps({"text": text, "text_pair": text + " !"}) + "\n" for text in TEXTS))
    flags = ("--train", pairs, "--dev", files["embed"], "--out", tmp_path / "run", "--epochs", 1, "--max-length", 16)
    (record,) = kbert("finetune", "embed", "--model", tiny_folder, *flags)
    assert {"spearman", "pearson"} <= record["dev"].keys()
    higher = tmp_path / "higher.jsonl"  # than all that the run has seen
    higher.write_text(Path(files["embed"]).read_text(encoding="utf8").replace('"score": 3', '"score": 30'))
    (measured,) = kbert("evaluate", tmp_path / "run", higher)
    assert measured["spearman"] == pytest.approx(record["dev"]["spearman"], abs=1e-6), "the ranks are the same"


def test_columns_that_a_model_does_not_read(tiny_folder, review_files, files, kbert, capsys, tmp_path):
    train, dev = review_files
    flags = ("--train", train, "--dev", dev, "--out", tmp_path / "run", "--epochs", 1, "--max-length", 16)
    kbert("finetune", "classify", "--model", tiny_folder, *flags)
    assert cli.main(["predict", str(tmp_path / "run"), files["embed"]]) == 2
    assert "has a second text, which this model does not read" in capsys.readouterr().err
    kbert("finetune", "tag", *common(tiny_folder, files["tag"], tmp_path / "tagger"), "--max-length", 16)
    assert cli.main(["evaluate", str(tmp_path / "tagger"), files["tag"], "--text-column", "text"]) == 2
    assert "is not read by columns that one can name" in capsys.readouterr().err
