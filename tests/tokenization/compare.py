"""Counts the texts whose tokens or offsets differ from Hugging Face's.

    python tests/tokenization/compare.py DATA

Texts: every assigned code point in six contexts, a million random strings, and every different line and JSON string of
every file in the folder DATA. Each goes through four settings of the tokenizer with an English and a Chinese
vocabulary. Prints one JSON object per vocabulary, setting and kind of text; exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import sys
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from reference import SETTINGS, contexts, differences, every_character_vocabulary, fuzz, reference_tokenizer

from kbert.tokenization.tokenizer import BertTokenizer


def read_vocabulary(name: str) -> tuple[str, ...] | list[str]:
    """The tokens of a preset; "every-character" makes some up."""
    if name == "every-character":
        return every_character_vocabulary()
    return BertTokenizer.from_preset(name).vocabulary


def every_code_point(assigned_only: bool) -> Iterator[str]:
    """Code points in their contexts."""
    for code_point in itertools.chain(range(0xD800), range(0xE000, 0x110000)):
        if not assigned_only or unicodedata.category(chr(code_point)) not in ("Cn", "Co"):
            yield from contexts(chr(code_point))


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """The names and bytes of the files that a file holds: itself, or the members of an archive."""
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, archive.extractfile(member).read()
    elif path.suffix == ".gz":
        yield path.stem, gzip.decompress(path.read_bytes())
    else:
        yield path.name, path.read_bytes()


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def lines(paths: Iterable[Path]) -> Iterator[str]:
    """The lines of files, and the strings of those that are JSON or JSON lines."""
    for path in paths:
        for name, content in contents(path):
            text = content.decode("utf-8", "replace")
            yield from text.split("\n")
            if name.endswith(".json"):
                try:
                    yield from strings(json.loads(text))
                except json.JSONDecodeError:
                    for line in filter(None, text.split("\n")):
                        yield from strings(json.loads(line))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="folder of texts")
    parser.add_argument("--vocabulary", nargs="+", default=["minilm-l6-en", "m3e-small-zh"], help="presets")
    parser.add_argument("--all", action="store_true", help="unassigned and private code points too")
    parser.add_argument("--fuzz", type=int, default=1_000_000, help="number of random strings")
    arguments = parser.parse_args()
    sources = {
        "code points": list(every_code_point(not arguments.all)),
        "random strings": list(fuzz(7, arguments.fuzz)),
    }
    if arguments.data:
        paths = sorted(path for path in arguments.data.rglob("*") if path.is_file())
        sources["lines"] = list(dict.fromkeys(lines(paths)))
    failed = False
    for name in arguments.vocabulary:
        vocabulary = read_vocabulary(name)
        for setting, config in SETTINGS.items():
            tokenizer, reference = BertTokenizer(vocabulary, config), reference_tokenizer(vocabulary, config)
            for source, texts in sources.items():
                counts = differences(tokenizer, reference, texts)
                failed |= bool(counts["different_ids"] or counts["different_offsets"])
                print(json.dumps({"vocabulary": name, "setting": setting, "source": source, **counts}), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
