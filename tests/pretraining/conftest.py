"""A corpus, a vocabulary and a size with which a model is pretrained in seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from kbert import cli

_WORDS = "good bad film plot was the a not very dull fine finely films unfine 我 爱 电 影".split()


@pytest.fixture(scope="session")
def files(tmp_path_factory, tiny_vocabulary) -> Path:
    """A folder with corpus.txt, vocab.txt, and size.json, a model of two layers, 16 wide."""
    folder = tmp_path_factory.mktemp("files")
    draw = random.Random(0)

    def sentence():
        return " ".join(draw.choice(_WORDS) for _ in range(draw.randint(4, 20))) + " ."

    documents = ["\n".join(sentence() for _ in range(draw.randint(2, 6))) for _ in range(60)]
    (folder / "corpus.txt").write_text("\n\n".join(documents) + "\n", encoding="utf8")
    (folder / "vocab.txt").write_text("".join(token + "\n" for token in tiny_vocabulary), encoding="utf8")
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 37, "max_sequence_length": 64}
    (folder / "size.json").write_text(json.dumps(sizes))
    (folder / "steady.json").write_text(json.dumps(sizes | {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}))
    return folder


@pytest.fixture(scope="session")
def arguments(files) -> list[str]:
    """`kbert pretrain`, but for --out: 14 steps with two lengths, evaluated every 6 and kept every 4."""
    flags = {
        "vocab": files / "vocab.txt",
        "size": files / "size.json",
        "steps": 14,
        "lengths": "16:0.5,32:0.5",
        "batch-tokens": 512,
        "learning-rate": 0.01,
        "held-out": 0.1,
        "evaluation-steps": 6,
        "checkpoint-steps": 4,
        "processes": 1,
    }
    words = (str(word) for name, value in flags.items() for word in (f"--{name}", value))
    return ["pretrain", str(files / "corpus.txt"), *words]


@pytest.fixture(scope="session")
def finished(arguments, tmp_path_factory) -> Path:
    """A run that was left alone."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert cli.main([*arguments, "--out", str(folder)]) == 0
    return folder
