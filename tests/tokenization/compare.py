"""Counts the texts whose tokens or offsets differ from Hugging Face's.

    python tests/tokenization/compare.py --vocabulary vocab.txt [--vocabulary tokenizer.json ...] [--texts FILE ...]

Sources: every code point in six contexts and random strings, each under four settings; every line of every file given
with `--texts`, uncased and cased. Prints one JSON object per vocabulary, setting and source; exits with 1 if anything
differs.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from reference import SETTINGS, contexts, differences, every_character_vocabulary, fuzz, reference_tokenizer

from kbert.tokenization.tokenizer import BertTokenizer


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a vocab.txt or tokenizer.json; "every-character" makes one up."""
    if path.name == "every-character":
        return every_character_vocabulary()
    if path.suffix == ".json":
        ids = json.loads(path.read_text("utf-8"))["model"]["vocab"]
        return sorted(ids, key=ids.__getitem__)
    return path.read_text("utf-8").removesuffix("\n").split("\n")


def every_code_point(assigned_only: bool) -> Iterator[str]:
    """Code points in their contexts."""
    for code_point in itertools.chain(range(0xD800), range(0xE000, 0x110000)):
        if not assigned_only or unicodedata.category(chr(code_point)) not in ("Cn", "Co"):
            yield from contexts(chr(code_point))


def file_lines(paths: Iterable[Path]) -> Iterator[str]:
    """The lines of text files, .gz too."""
    for path in paths:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                yield line.decode("utf-8", "replace").rstrip("\n")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=Path, action="append", required=True)
    parser.add_argument("--texts", type=Path, nargs="*", default=[])
    parser.add_argument("--all", action="store_true", help="unassigned and private code points too")
    parser.add_argument("--fuzz", type=int, default=20_000, help="random strings per setting")
    parser.add_argument("--skip-code-points", action="store_true")
    arguments = parser.parse_args()
    failed = False
    for path in arguments.vocabulary:
        vocabulary = read_vocabulary(path)
        for setting, config in SETTINGS.items():
            tokenizer, reference = BertTokenizer(vocabulary, config), reference_tokenizer(vocabulary, config)
            sources = {"fuzz": fuzz(7, arguments.fuzz)}
            if not arguments.skip_code_points:
                sources["code points"] = every_code_point(not arguments.all)
            if setting in ("uncased", "cased") and arguments.texts:
                sources["lines"] = file_lines(arguments.texts)
            for source, texts in sources.items():
                counts = differences(tokenizer, reference, texts)
                failed |= bool(counts["different_ids"] or counts["different_offsets"])
                print(json.dumps({"vocabulary": path.name, "setting": setting, "source": source, **counts}), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
