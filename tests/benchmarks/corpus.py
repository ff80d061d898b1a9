"""Times the preparation of a corpus beside the bare tokenizer, and measures its peak memory for ten times the text.

    python tests/benchmarks/corpus.py TEXT… [--preset minilm-l6-en] [--megabytes 20] [--rounds 3] [--processes N]

The TEXT files, plain or .gz with blank lines between documents, are repeated, numbered so that no two documents are
equal, up to so many megabytes and up to ten times that. Each measurement is a process of its own. Speed is that of the
nine parts that the larger text has more, so that no start-up counts. The bare tokenizer gets the same sentences, ready
in memory, in batches of the same size, on the same cores: one batch after another ("tokenizer"), and several at once
("tokenizer_at_once"), as the preparation has them in work, which keeps the cores busy between batches too. Prints one
JSON object per measurement, and one that sums them up: the preparation's speed in terms of the tokenizer's, and its
peak memory with ten times the text in terms of that with one. With several processes the memory is that of the one that
reads and writes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from kbert.data.documents import read_documents
from kbert.data.prepared import prepare_corpus
from kbert.data.sentences import split_documents
from kbert.tokenization.tokenizer import BertTokenizer

BATCH = 2**20  # characters
AT_ONCE = 3
CONTENDERS = ("tokenizer", "tokenizer_at_once", "prepare_corpus")


def write_text(sources: Sequence[str], target: Path, size: int) -> None:
    """Repeat documents until they are `size` bytes."""
    with target.open("wb") as file:
        for number in itertools.count():
            for document in read_documents(sources):
                file.write(f"{document}\n{number}\n\n".encode())
                if file.tell() >= size:
                    return


def batches(text: Path) -> Iterator[list[str]]:
    """Sentences of about `BATCH` characters."""
    documents, size = [], 0
    for document in read_documents([text]):
        documents.append(document)
        size += len(document)
        if size >= BATCH:
            yield split_documents(documents)[0]
            documents, size = [], 0
    yield split_documents(documents)[0]


def measure(contender: str, text: Path, preset: str, processes: int | None) -> None:
    """One measurement, in this process."""
    tokenizer = BertTokenizer.from_preset(preset)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        ready = [batch for batch in batches(text) if batch] if contender != "prepare_corpus" else []
        start = time.perf_counter()
        if contender == "prepare_corpus":
            prepare_corpus([text], tokenizer, Path(folder) / "corpus", processes=processes)
        else:
            run = pool.map if contender == "tokenizer_at_once" else map
            for _ in run(tokenizer.tokenize, ready):
                pass
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": round(seconds, 2), "peak_mib": round(peak)}))


def measured(contender: str, text: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """One measurement, in a process of its own."""
    command = [sys.executable, __file__, str(text), "--preset", arguments.preset, "--contender", contender]
    if arguments.processes:
        command += ["--processes", str(arguments.processes)]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(json.dumps({"contender": contender, "bytes": text.stat().st_size, **result}), flush=True)
    return result


def compare(arguments: argparse.Namespace) -> None:
    """All measurements, the contenders in turn."""
    with tempfile.TemporaryDirectory() as folder:
        texts = [Path(folder) / "once.txt", Path(folder) / "ten_times.txt"]
        for text, times in zip(texts, (1, 10), strict=True):
            write_text(arguments.texts, text, int(arguments.megabytes * times * 1e6))
        more = (texts[1].stat().st_size - texts[0].stat().st_size) / 1e6
        speeds: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
        memory = []
        for _, contender in itertools.product(range(arguments.rounds), CONTENDERS):
            once, ten_times = (measured(contender, text, arguments) for text in texts)
            speeds[contender].append(more / (ten_times["seconds"] - once["seconds"]))
            if contender == "prepare_corpus":
                memory.append(ten_times["peak_mib"] / once["peak_mib"])
    medians = {contender: statistics.median(values) for contender, values in speeds.items()}
    prepare = medians["prepare_corpus"]
    print(
        json.dumps(
            {
                **{f"{contender}_mb_per_s": round(speed, 1) for contender, speed in medians.items()},
                "speed_ratio": round(prepare / medians["tokenizer"], 2),
                "speed_ratio_at_once": round(prepare / medians["tokenizer_at_once"], 2),
                "memory_ratio": round(statistics.median(memory), 2),
            }
        )
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--preset", default="minilm-l6-en")
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        measure(arguments.contender, Path(arguments.texts[0]), arguments.preset, arguments.processes)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
