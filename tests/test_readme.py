"""What the documents show is what runs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from kbert import cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "serving" / "README.md"]


def blocks(path: Path, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf8"), re.M | re.S)
    return [block for name, block in fenced if name == language]


def commands() -> list[str]:
    lines = [
        line
        for path in DOCUMENTS
        for language in ("bash", "")
        for block in blocks(path, language)
        for line in block.splitlines()
    ]
    return sorted({line for line in lines if line.startswith("kbert ")})


@pytest.mark.parametrize("command", commands())
def test_every_command_shown_is_one_that_exists(command):
    arguments = shlex.split(command, comments=True)[1:]
    assert callable(cli._parser().parse_args(arguments).run)


@pytest.fixture
def run_example(tmp_path, monkeypatch, capsys, minilm_folder):
    """Runs a block of Python of the README; gives the lines that it prints."""

    def run(number: int) -> list[str]:
        example = blocks(ROOT / "README.md", "python")[number]
        monkeypatch.chdir(tmp_path)
        exec(compile(example, "README.md", "exec"), {})
        return capsys.readouterr().out.splitlines()

    return run


def test_the_classifier_example(tmp_path, run_example):
    ids, labels = run_example(0)
    # [CLS] this is an example sentence . [SEP] in BERT's English vocabulary.
    assert ids.startswith("[[ 101 2023 2003 2019 2742 6251 1012  102]] (1, 2) ")
    assert labels == "['positive' 'negative']"
    assert (tmp_path / "runs" / "reviews" / "model.safetensors").exists()


def test_the_tasks_example(run_example):
    printed = " ".join(" ".join(run_example(1)).split())
    assert printed.startswith("[['Rome'] ['New York City']] [[8] [8]] [[12] [21]] [[1. 0.97 0.04]")


def test_the_example_from_scratch(run_example):
    assert run_example(2) == ["['positive' 'negative']"]


def test_the_tokenizer_example(run_example):
    *tokens, windows = run_example(3)
    assert tokens == ["naive 0 5", "cafes 7 12", ", 12 13", "中 14 15", "文 15 16"]
    # 300 tokens in windows of 62 that share 16, and a text that fits.
    assert windows == "(8, 64) [0 0 0 0 0 0 0 1] [ 247  432  614  799  984 1166 1200   11]"


def test_ci_runs_the_readme_s_test_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf8").replace("eval", "#")
    shown = subprocess.run(["bash", "-c", script, ROOT / ".ci" / "run"], capture_output=True, text=True, check=True)
    (test_command,) = [block for block in blocks(ROOT / "README.md", "bash") if "pytest" in block]
    assert shown.stdout.strip() == test_command.strip()


def test_no_figure_is_still_missing():
    found = set(re.findall(r"\b[A-Z]+_[A-Z]+\b", (ROOT / "README.md").read_text(encoding="utf8")))
    assert found <= {"TF_CONFIG"}


def test_the_picture_of_the_rooms_is_the_package():
    (picture,) = [block for block in blocks(ROOT / "README.md", "") if block.startswith("kbert/\n")]
    shown = [re.match(r"  (\S+?)/?\s", line)[1] for line in picture.splitlines()[1:]]
    package = {path.name for path in (ROOT / "kbert").iterdir() if not path.name.startswith(("_", "py."))}
    assert set(shown) == package
