"""Writes kbert/tokenization/unicode.txt from what the installed `tokenizers` does to each code point.

    python tests/tokenization/write_unicode.py [--check]

Run it when a new release of `tokenizers` changes a token; `--check` only compares and exits with 1 on a difference.
"""

from __future__ import annotations

import argparse
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import tokenizers
from tokenizers.normalizers import NFD, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

TARGET = Path(__file__).parents[2] / "kbert/tokenization/unicode.txt"
SURROGATES = range(0xD800, 0xE000)
HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
WIDTH = 118


def code_points() -> Iterator[int]:
    """Every code point that a string can hold."""
    return (c for c in range(0x110000) if c not in SURROGATES)


def normalizer(**switches: bool) -> BertNormalizer:
    """BERT's normalizer with nothing on but `switches`."""
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    return BertNormalizer(**{**off, **switches})


def ranges(values: Iterable[int]) -> Iterator[str]:
    """Ascending code points as "start-end" in hexadecimal."""
    first = last = None
    for value in [*values, None]:
        if last is not None and value == last + 1:
            last = value
            continue
        if first is not None:
            yield f"{first:X}" if first == last else f"{first:X}-{last:X}"
        first = last = value


def mapped(table: dict[int, str]) -> Iterator[str]:
    """Replacements as "from:to" or "from:to+to" in hexadecimal."""
    for code_point, text in table.items():
        yield f"{code_point:X}:{'+'.join(f'{ord(c):X}' for c in text)}"


def combining_classes() -> dict[int, int]:
    """The canonical combining class of each code point that has one, seen from how NFD orders pairs of marks."""
    decompose = NFD().normalize_str

    def comes_after(first: str, second: str) -> bool:
        return first != second and decompose(first + second) == second + first

    lowest, highest = "\u0334", "\u0345"  # classes 1 and 240

    def has_class(x: str) -> bool:
        return decompose(x) == x and (comes_after(x, lowest) or comes_after(highest, x))

    marks = [chr(c) for c in code_points() if has_class(chr(c))]
    representatives: dict[int, str] = {}
    for x in marks:
        if unicodedata.combining(x):
            representatives.setdefault(unicodedata.combining(x), x)
    classes = {}
    for x in marks:
        (classes[ord(x)],) = (k for k, r in representatives.items() if not comes_after(x, r) and not comes_after(r, x))
    return classes


def by_class(classes: dict[int, int]) -> Iterator[str]:
    """Combining classes as "class:start-end", the class in decimal."""
    for k in sorted(set(classes.values())):
        for entry in ranges(c for c, own in classes.items() if own == k):
            yield f"{k}:{entry}"


def lines(name: str, entries: Iterable[str]) -> Iterator[str]:
    """The entries of one property, in lines that begin with its name."""
    line = name
    for entry in entries:
        if len(line) + 1 + len(entry) > WIDTH:
            yield line
            line = name
        line += " " + entry
    yield line


def table() -> str:
    """The whole file."""
    clean = normalizer(clean_text=True).normalize_str
    strip = normalizer(strip_accents=True).normalize_str
    lower = normalizer(lowercase=True).normalize_str
    split = normalizer(handle_chinese_chars=True).normalize_str
    decompose = NFD().normalize_str
    words = BertPreTokenizer().pre_tokenize_str
    cleaned = {c: clean(chr(c)) for c in code_points()}
    stripped = {c: strip(chr(c)) for c in code_points()}
    lowered = {c: lower(chr(c)) for c in code_points()}
    decomposed = {c: decompose(chr(c)) for c in code_points() if c not in HANGUL_SYLLABLES}
    properties = {
        "dropped": ranges(c for c, s in cleaned.items() if s == ""),
        "space": ranges(c for c, s in cleaned.items() if s == " "),
        "chinese": ranges(c for c in code_points() if split(chr(c)) != chr(c)),
        "punctuation": ranges(c for c in code_points() if len(words(f"a{chr(c)}a")) == 3),
        "mark": ranges(c for c, s in stripped.items() if s == ""),
        "decomposed": mapped({c: s for c, s in decomposed.items() if s != chr(c)}),
        "combining": by_class(combining_classes()),
        "lower": mapped({c: s for c, s in lowered.items() if s != chr(c)}),
    }
    text = [f"# BERT's view of Unicode, as tokenizers {tokenizers.__version__} has it; see write_unicode.py."]
    for name, entries in properties.items():
        text.extend(lines(name, entries))
    return "\n".join(text) + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = table()
    if check:
        same = text.splitlines()[1:] == TARGET.read_text("ascii").splitlines()[1:]
        print("the same" if same else "different")
        return 0 if same else 1
    TARGET.write_text(text, "ascii")
    print(f"{TARGET}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
