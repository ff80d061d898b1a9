"""Times the tokenizer beside its peers on English sentences and on Chinese news.

    python tests/benchmarks/tokenization.py DATA [--rounds 9] [--chart FILE.html]

DATA holds `sst2/train.tsv` (the first 20,000 sentences are read), `tnews/train.json.gz` (as many headlines) and
`zh_peoples_daily_199801/199801.txt.gz` (all paragraphs). Prints one JSON object per text and contender.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import os
from pathlib import Path

THREADS = "2"
os.environ.update(RAYON_NUM_THREADS=THREADS, TOKENIZERS_PARALLELISM="true", TF_CPP_MIN_LOG_LEVEL="2")

import tensorflow as tf  # noqa: E402

from kbert.bench.report import table, write_chart  # noqa: E402
from kbert.bench.tokenizing import compare_tokenizers  # noqa: E402

TEXTS = 20_000


def sentences(data: Path) -> list[str]:
    """English film reviews."""
    lines = (data / "sst2/train.tsv").read_text("utf-8").split("\n")[1 : TEXTS + 1]
    return [line.split("\t")[0] for line in lines]


def headlines(data: Path) -> list[str]:
    """Chinese news titles."""
    with gzip.open(data / "tnews/train.json.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["sentence"] for line, _ in zip(file, range(TEXTS), strict=False)]


def paragraphs(data: Path) -> list[str]:
    """Chinese news, the marks of its words taken out."""
    with gzip.open(data / "zh_peoples_daily_199801/199801.txt.gz", "rt", encoding="utf-8") as file:
        texts = ("".join(word.rsplit("/", 1)[0] for word in line.split()[1:]) for line in file)
        return [text for text in texts if text]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--chart", type=Path)
    arguments = parser.parse_args()
    tf.config.threading.set_inter_op_parallelism_threads(int(THREADS))
    tf.config.threading.set_intra_op_parallelism_threads(int(THREADS))
    works = {
        "SST-2 sentences": (sentences(arguments.data), "minilm-l6-en"),
        "TNEWS headlines": (headlines(arguments.data), "m3e-small-zh"),
        "People's Daily paragraphs": (paragraphs(arguments.data), "m3e-small-zh"),
    }
    charts = {}
    for name, (texts, preset) in works.items():
        charts[name] = compare_tokenizers(texts, preset, arguments.rounds)
        for measurement in charts[name]:
            print(json.dumps({"texts": name, **dataclasses.asdict(measurement)}), flush=True)
        print(f"{name}\n{table(charts[name])}\n", flush=True)
    if arguments.chart:
        write_chart(arguments.chart, "kbert's tokenizer and its peers", charts)


if __name__ == "__main__":
    main()
