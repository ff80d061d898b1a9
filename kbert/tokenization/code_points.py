"""What BERT's normalization makes of every code point, as arrays; no TensorFlow and no `unicodedata`.

The order is that of Hugging Face's `BertNormalizer`: clean, set Chinese characters apart, strip accents (decompose,
drop marks), lower-case; then `BertPreTokenizer` splits at white space and around punctuation. All but the canonical
ordering of marks looks at one code point at a time, so that a table says it all.

The properties come from unicode.txt, which was written from the behaviour of `tokenizers` 0.23.3 and not from Python's
`unicodedata`: that one follows the Python version (Unicode 13 in 3.10, 15.1 in 3.13), while `tokenizers` has general
categories of Unicode 8, decompositions of Unicode 9 and lower-casing of Unicode 17. The same file gives the same tokens
on every Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import numpy as np

from kbert.config import TokenizerConfig

NUM_CODE_POINTS = 0x110000
LETTER, ALONE, SPACE = range(3)  # part of a word, a word by itself, between words
_HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
_Mapping = dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class CodePointTable:
    """The outcome of normalization per code point."""

    kind: np.ndarray
    """uint8 [NUM_CODE_POINTS]: LETTER, ALONE or SPACE, for each character that can result."""
    output: np.ndarray
    """int32 [NUM_CODE_POINTS]: the character that results; 0: none; negative: see row `-output` of `expansions`."""
    expansions: np.ndarray
    """int32 [K, 3]: the characters that result where they are several, filled up with 0; row 0 is empty."""
    movable: int
    """The row of `expansions` from which on they hold marks that stay and that canonical ordering can move."""
    ordering: np.ndarray
    """int32 [NUM_CODE_POINTS]: row of the two arrays below; 0: the code point begins a run of its own."""
    parts: np.ndarray
    """int32 [J, 4]: the characters that a decomposition ends in; 0: none, or a mark that is dropped."""
    classes: np.ndarray
    """int32 [J, 4]: the combining class of each part, 0 for one that begins a run; -1: no such part."""


def build_table(config: TokenizerConfig) -> CodePointTable:
    """The table for one tokenizer setting."""
    properties = _read_properties()
    kind = np.full(NUM_CODE_POINTS, LETTER, np.uint8)
    kind[_members(properties["punctuation"])] = ALONE
    if config.tokenize_chinese_chars:
        kind[_members(properties["chinese"])] = ALONE
    spaces, dropped = _members(properties["space"]), _members(properties["dropped"])
    kind[spaces] = SPACE

    marks: set[int] = set()
    classes: dict[int, int] = {}
    pieces: _Mapping = {}
    if config.strips_accents:
        marks, classes = set(_members(properties["mark"]).tolist()), _combining_classes(properties["combining"])
        pieces = {c: (c,) for c in marks | classes.keys()} | _mapping(properties["decomposed"])
        pieces |= {syllable: _decompose_hangul(syllable) for syllable in _HANGUL_SYLLABLES}
    lower = _mapping(properties["lower"]) if config.do_lower_case else {}
    forms: _Mapping = {}
    for source in sorted(pieces.keys() | lower.keys()):
        kept = [c for c in pieces.get(source, (source,)) if c not in marks]
        forms[source] = tuple(x for c in kept for x in lower.get(c, (c,)))

    stays = {c for c in classes if c not in marks}
    moving = {source for source, characters in pieces.items() if not stays.isdisjoint(characters)}
    several = [source for source, characters in forms.items() if len(characters) > 1 and source not in moving]
    output = np.arange(NUM_CODE_POINTS, dtype=np.int32)
    output[list(forms)] = [characters[0] if characters else 0 for characters in forms.values()]
    rows = several + sorted(moving)
    output[rows] = -1 - np.arange(len(rows))
    output[dropped] = 0
    output[spaces] = ord(" ")

    # A mark of class 0 does not move, but ends a run, though it is dropped.
    in_runs = marks | classes.keys()
    ordered = [source for source, characters in pieces.items() if not in_runs.isdisjoint(characters)]
    ordering = np.zeros(NUM_CODE_POINTS, np.int32)
    ordering[ordered] = 1 + np.arange(len(ordered))
    ordering[dropped] = 0
    parts = [[0 if c in marks else lower.get(c, (c,))[0] for c in pieces[source]] for source in ordered]
    part_classes = [[classes.get(c, 0) for c in pieces[source]] for source in ordered]
    return CodePointTable(
        kind,
        output,
        _matrix([forms[source] for source in rows], width=3, fill=0),
        len(several) + 1,
        ordering,
        _matrix(parts, width=4, fill=0),
        _matrix(part_classes, width=4, fill=-1),
    )


def _matrix(rows: list, width: int, fill: int) -> np.ndarray:
    """Rows of at most `width` numbers, filled up, below one that is all `fill`."""
    return np.array([[*row, *[fill] * (width - len(row))] for row in [[], *rows]], np.int32)


def _decompose_hangul(syllable: int) -> tuple[int, ...]:
    """The conjoining letters of a syllable (Unicode Standard, section 3.12)."""
    lead, rest = divmod(syllable - _HANGUL_SYLLABLES.start, 21 * 28)
    vowel, trail = divmod(rest, 28)
    letters = (0x1100 + lead, 0x1161 + vowel)
    return (*letters, 0x11A7 + trail) if trail else letters


def _read_properties() -> dict[str, list[str]]:
    """unicode.txt as property -> entries."""
    properties: dict[str, list[str]] = {}
    text = resources.files(__package__).joinpath("unicode.txt").read_text("ascii")
    for line in text.splitlines():
        if not line.startswith("#"):
            name, *entries = line.split()
            properties.setdefault(name, []).extend(entries)
    return properties


def _members(entries: list[str]) -> np.ndarray:
    """The code points of "41" and "41-5A" entries."""
    bounds = [[int(bound, 16) for bound in entry.split("-")] for entry in entries]
    return np.concatenate([np.arange(bound[0], bound[-1] + 1) for bound in bounds])


def _mapping(entries: list[str]) -> _Mapping:
    """The replacements of "from:to+to" entries."""
    pairs = [entry.split(":") for entry in entries]
    return {int(source, 16): tuple(int(target, 16) for target in targets.split("+")) for source, targets in pairs}


def _combining_classes(entries: list[str]) -> dict[int, int]:
    """The classes of "class:start-end" entries."""
    pairs = [entry.split(":") for entry in entries]
    return {int(c): int(number) for number, members in pairs for c in _members([members])}
