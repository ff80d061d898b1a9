"""Fine-tune on published data sets with kbert and with transformers, same recipe and seeds; print a table.

    python tests/benchmarks/tasks.py DATA --results results.jsonl [--only conll2003 …] [--systems kbert] [--seeds 0 1 2]

DATA holds a folder for each set, with its files as they are published. Each finished run is a line of the results
file, and not repeated. Needs the extra `parity`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
MINILM, M3E = "minilm-l6-en", "m3e-small-zh"
SYSTEMS = ("transformers", "kbert")
Files = dict[str, Path]
"""`train`, and what is measured on, by name."""


@dataclass(frozen=True)
class DataSet:
    """A task with a recipe that both systems follow."""

    task: str
    """The verb of `kbert finetune`."""
    model: str
    """A name of `kbert presets`."""
    metric: str
    files: Callable[[Path, Path], Files]
    """From the folder of the data, and one for what has to be written anew."""
    flags: tuple[str, ...] = ()
    """Of `kbert finetune`, beside those of `recipe`."""
    recipe: dict[str, str] = field(default_factory=dict)
    heads: tuple[str, ...] = ("",)
    """Of `kbert finetune tag`; transformers has the first alone."""

    def options(self) -> list[str]:
        """The recipe as flags, which both systems know."""
        recipe = {"epochs": "3", "learning-rate": "5e-5", "batch-size": "32", "max-length": "128"} | self.recipe
        return [word for name, value in recipe.items() for word in (f"--{name}", value)]


# === Files ===


def named(**names: str) -> Callable[[Path, Path], Files]:
    """Files that kbert reads as they are."""
    return lambda data, _: {name: data / file for name, file in names.items()}


def cola(data: Path, scratch: Path) -> Files:
    """Columns without a header: source, label, the author's mark, sentence."""
    found = {}
    for name in ("train", "dev"):
        rows = [line.split("\t") for line in (data / f"{name}.tsv").read_text(encoding="utf8").splitlines()]
        found[name] = write_table(scratch / f"{name}.tsv", [(row[3], row[1]) for row in rows])
    return found


def write_table(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Texts and labels."""
    path.write_text("".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows]), encoding="utf8")
    return path


def stsb(data: Path, scratch: Path) -> Files:
    """The test scores stand in a file of their own, without a header."""
    columns = ("sentence1", "sentence2", "score")
    rows = [line.split("\t") for line in (data / "sts-test.tsv").read_text(encoding="utf8").splitlines()]
    lines = [columns, *((row[5], row[6], row[4]) for row in rows)]
    test = scratch / "test.tsv"
    test.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf8")
    return {"train": data / "train.tsv", "dev": data / "dev.tsv", "test": test}


def chnsenticorp(data: Path, scratch: Path) -> Files:
    """The published split, and its rows whose text is not in the training file."""

    def rows(name: str) -> list[tuple[str, str]]:
        with (data / f"{name}.tsv").open(encoding="utf8", newline="") as file:
            return [
                (row["text_a"], row["label"]) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            ]

    known = {text for text, _ in rows("train")}
    found = {name: data / f"{name}.tsv" for name in ("train", "dev", "test")}
    for name in ("dev", "test"):
        unseen = [row for row in rows(name) if row[0] not in known]
        found[f"{name}_unseen"] = write_table(scratch / f"{name}_unseen.tsv", unseen)
    return found


def squad(data: Path, scratch: Path) -> Files:
    """The published dev set split by article: 40 to train, 8 to measure."""
    articles = json.loads((data / "dev-v1.1.rebuilt.json").read_text(encoding="utf8"))["data"]
    return {
        "train": write_squad(scratch / "train.json", articles[:40]),
        "test": write_squad(scratch / "test.json", articles[40:]),
    }


def cmrc(data: Path, scratch: Path) -> Files:
    """The trial set and two thirds of the dev set to train, the last third to measure; without what has no span."""
    trial, dev = (
        json.loads((data / f"cmrc2018_{name}.json").read_text(encoding="utf8"))["data"] for name in ("trial", "dev")
    )
    border = 2 * len(dev) // 3
    return {
        "train": write_squad(scratch / "train.json", trial + dev[:border]),
        "test": write_squad(scratch / "test.json", dev[border:]),
    }


def write_squad(path: Path, articles: list[dict]) -> Path:
    """Articles as a file of SQuAD's form."""
    path.write_text(json.dumps({"version": "1.1", "data": articles}, ensure_ascii=False), encoding="utf8")
    return path


TAG_HEADS = ("dense", "crf", "bilstm", "bilstm-crf")
SETS = {
    "rte": DataSet("classify", MINILM, "accuracy", named(train="train.tsv", dev="dev.tsv")),
    "cola": DataSet("classify", MINILM, "matthews_correlation", cola),
    "stsb": DataSet("classify", MINILM, "spearman", stsb, flags=("--regression",)),
    "conll2003": DataSet(
        "tag", MINILM, "f1", named(train="eng.train", dev="eng.testa", test="eng.testb"), heads=TAG_HEADS
    ),
    "resume_ner": DataSet(
        "tag",
        M3E,
        "f1",
        named(train="train.char.bmes", dev="dev.char.bmes", test="test.char.bmes"),
        heads=("dense", "crf"),
    ),
    "cluener": DataSet("tag", M3E, "f1", named(train="train.json", dev="dev.json"), heads=("dense", "crf")),
    "chnsenticorp": DataSet("classify", M3E, "accuracy", chnsenticorp, recipe={"max-length": "256"}),
    "squad11_dev": DataSet("answer", MINILM, "f1", squad, recipe={"epochs": "2", "max-length": "256"}),
    "cmrc2018": DataSet("answer", M3E, "f1", cmrc, recipe={"epochs": "2", "max-length": "256"}),
}

# === Runs ===


def model_folder(preset: str, cache: Path) -> Path:
    """A preset as a folder that both systems open."""
    folder = cache / preset
    if not folder.exists():
        import kbert

        kbert.BertTextEmbedder.from_preset(preset).save_to_preset(folder)
    return folder


def run_kbert(data: DataSet, files: Files, model: Path, head: str, seed: int) -> dict[str, dict]:
    """Metrics on each file, of `kbert finetune` and `kbert evaluate`."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        first = next(path for name, path in files.items() if name != "train")
        command = [*kbert_command("finetune", data.task), "--model", model, "--out", out, *data.options(), *data.flags]
        command += ["--train", files["train"], "--dev", first, "--seed", str(seed), *(["--head", head] if head else [])]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return {name: last_line([*kbert_command("evaluate"), out, path]) for name, path in measured(files)}


def kbert_command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from kbert.cli import main; main()", *words]


def run_transformers(data: DataSet, files: Files, model: Path, head: str, seed: int) -> dict[str, dict]:
    """The same of transformers' Trainer; metrics by the libraries that define them."""
    task = "regression" if "--regression" in data.flags else data.task
    tests = [f"{name}={path}" for name, path in measured(files)]
    script = FOLDER / "tasks_transformers.py"
    command = [sys.executable, script, task, model, files["train"], *tests, *data.options(), "--seed", str(seed)]
    metrics = last_line(command)
    return {name: metrics[name] for name, _ in measured(files)}


RUNS: dict[str, Callable[..., dict[str, dict]]] = {"kbert": run_kbert, "transformers": run_transformers}


def measured(files: Files) -> list[tuple[str, Path]]:
    return [(name, path) for name, path in files.items() if name != "train"]


def last_line(command: list) -> dict:
    """What a command prints last, a JSON object."""
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--heads", nargs="+", choices=TAG_HEADS, default=list(TAG_HEADS))
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "kbert-benchmark-models")
    args = parser.parse_args()
    for seed in args.seeds:
        for name in args.only:
            data = SETS[name]
            for system in args.systems:
                for head in data.heads if system == "kbert" else data.heads[:1]:
                    key = {"set": name, "system": system, "head": head, "seed": seed}
                    if (head and head not in args.heads) or any(
                        key.items() <= row.items() for row in rows_of(args.results)
                    ):
                        continue
                    with tempfile.TemporaryDirectory() as scratch:
                        files = data.files(args.data / name, Path(scratch))
                        metrics = RUNS[system](data, files, model_folder(data.model, args.models), head, seed)
                    with args.results.open("a") as file:
                        file.write(json.dumps(key | {"metrics": metrics}) + os.linesep)
    print_table(rows_of(args.results))


def rows_of(results: Path) -> list[dict]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def print_table(rows: list[dict]) -> None:
    """A line for each set, system, head and file: the metric of each seed, and the mean, in percent."""
    print("| set | system | file | metric | seeds | mean |\n|---|---|---|---|---|---|")
    groups: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        metric = SETS[row["set"]].metric
        for file, metrics in row["metrics"].items():
            system = f"{row['system']} {row['head']}".strip()
            groups.setdefault((row["set"], system, file, metric), []).append(100 * metrics[metric])
    for key, values in sorted(groups.items()):
        seeds = ", ".join(f"{value:.2f}" for value in values)
        print(f"| {' | '.join(key)} | {seeds} | {statistics.mean(values):.2f} |")


if __name__ == "__main__":
    main()
