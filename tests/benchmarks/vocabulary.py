"""Learn vocabularies with `kbert vocab` and in the own way of `tokenizers`; compare time, bytes and tokens.

    python tests/benchmarks/vocabulary.py DATA [--language en|zh]

DATA holds english_novels/*.txt and wikitext2/*.txt; for zh, zh_peoples_daily_199801/*.txt.gz and chnsenticorp/*.tsv.
Prints one JSON object: seconds and checksum of each run (a fresh process with hashes and threads of its own), and
tokens of held-out texts under both vocabularies. Exits with 1 if runs differ or take more than two minutes, or if
held-out texts take 2 % more tokens.
"""

import argparse
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tokenizers import BertWordPieceTokenizer

SIZES = {"en": 30_000, "zh": 8_000}
SETTINGS = (
    {"PYTHONHASHSEED": "1"},
    {"PYTHONHASHSEED": "2", "RAYON_NUM_THREADS": "1"},
    {"PYTHONHASHSEED": "3", "TOKENIZERS_PARALLELISM": "false"},
)


def english(data: Path) -> tuple[list[str], dict[str, list[str]]]:
    """All novels but one to learn from; that one and Wikipedia are held out."""
    *novels, last = sorted((data / "english_novels").glob("*.txt"))
    held_out = {
        last.stem: lines(last),
        "wikitext2": [line for p in (data / "wikitext2").glob("*.txt") for line in lines(p)],
    }
    return [line for path in novels for line in lines(path)], held_out


def chinese(data: Path) -> tuple[list[str], dict[str, list[str]]]:
    """A newspaper without its tags, and reviews; other reviews are held out."""
    texts = []
    for path in (data / "zh_peoples_daily_199801").glob("*.txt.gz"):
        texts += [re.sub(r"/\w+|\s+", "", line) for line in lines(path)]
    reviews = {
        part: [row.split("\t")[1] for row in lines(data / "chnsenticorp" / f"{part}.tsv")[1:]]
        for part in ("train", "test")
    }
    return texts + reviews["train"], {"chnsenticorp test": reviews["test"]}


def lines(path: Path) -> list[str]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return content.decode("utf-8-sig").splitlines()


def run_kbert(corpus: Path, size: int, out: Path, settings: dict[str, str]) -> dict:
    start = time.monotonic()
    command = [sys.executable, "-m", "kbert.cli", "vocab", corpus, "--size", str(size), "--out", out]
    process = subprocess.run(command, env=os.environ | settings, stdout=subprocess.PIPE, check=True)
    seconds = time.monotonic() - start
    return {
        **json.loads(process.stdout),
        "seconds": round(seconds, 1),
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "settings": settings,
    }


def run_tokenizers(corpus: Path, size: int) -> tuple[BertWordPieceTokenizer, float]:
    start = time.monotonic()
    tokenizer = BertWordPieceTokenizer()
    # Its limit of 1000 characters would leave out most of Chinese.
    tokenizer.train(str(corpus), vocab_size=size, limit_alphabet=size, show_progress=False)
    return tokenizer, round(time.monotonic() - start, 1)


def count(tokenizer: BertWordPieceTokenizer, texts: Iterable[str]) -> dict[str, int]:
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    unknown = tokenizer.token_to_id("[UNK]")
    return {"tokens": sum(map(len, rows)), "unknown": sum(row.count(unknown) for row in rows)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--language", choices=SIZES, default="en")
    args = parser.parse_args()
    size = SIZES[args.language]
    texts, held_out = (english if args.language == "en" else chinese)(args.data)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        corpus.write_text("\n".join(texts) + "\n", encoding="utf8")
        runs = [run_kbert(corpus, size, Path(folder) / f"{i}.txt", settings) for i, settings in enumerate(SETTINGS)]
        ours = BertWordPieceTokenizer(str(Path(folder) / "0.txt"))
        theirs, seconds = run_tokenizers(corpus, size)
        corpus_bytes = corpus.stat().st_size
    results = {}
    for name, part in held_out.items():
        kbert, tokenizers = count(ours, part), count(theirs, part)
        ratio = kbert["tokens"] / tokenizers["tokens"]
        results[name] = {"kbert": kbert, "tokenizers": tokenizers, "ratio": round(ratio, 4)}
    same = len({run["sha256"] for run in runs}) == 1
    report = {"corpus_bytes": corpus_bytes, "runs": runs, "same_bytes": same, "tokenizers_seconds": seconds}
    report |= {"tokenizers_size": theirs.get_vocab_size(), "held_out": results}
    print(json.dumps(report, ensure_ascii=False, indent=2))
    slow = max(run["seconds"] for run in runs) > 120
    return int(not same or slow or max(result["ratio"] for result in results.values()) > 1.02)


if __name__ == "__main__":
    sys.exit(main())
