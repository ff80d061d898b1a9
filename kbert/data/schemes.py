"""Tag schemes: entities as spans, and as one tag for each word.

| scheme | tags of an entity of type X of one word, of several | |
|---|---|---|
| BIO (IOB2) | B-X · B-X I-X I-X | |
| IOB1 | I-X · I-X I-X I-X | B-X begins an entity that touches one of the same type |
| BIOES | S-X · B-X I-X E-X | |
| BMES | S-X · B-X M-X E-X | |
| BILOU | U-X · B-X I-X L-X | |
| plain | X · X X X | parts of speech: every word is an entity of its own |

`O` stands outside of entities in all of them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OUTSIDE = "O"
# For the only, first, middle and last word of an entity.
LETTERS = {
    "BIO": ("B", "B", "I", "I"),
    "IOB1": ("I", "I", "I", "I"),
    "BIOES": ("S", "B", "I", "E"),
    "BMES": ("S", "B", "M", "E"),
    "BILOU": ("U", "B", "I", "L"),
    "plain": ("", "", "", ""),
}
BEGINNING = frozenset(("", *"BSU"))
CONTINUING = frozenset("IMEL")
CLOSING = frozenset(("", *"ESLU"))
# Not any letters before "_": sets of parts of speech have tags like N_NN.
_PREFIXED = re.compile(r"([A-Za-z])-(.+)|([BIMESLU])_(.+)", re.DOTALL)


@dataclass(frozen=True, order=True, slots=True)
class Span:
    """A labelled stretch of a text or of a row of words; `end` is exclusive."""

    start: int
    end: int
    label: str


@functools.lru_cache(maxsize=4096)
def split_tag(tag: str) -> tuple[str, str]:
    """The letter and the type of a tag: ("B", "PER") for "B-PER", ("", "NN") for "NN", ("O", "") for "O"."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    match = _PREFIXED.fullmatch(tag)
    return (match[1] or match[3], match[2] or match[4]) if match else ("", tag)


def continues(letter: str, before: str) -> bool:
    """Whether a tag goes on with the entity of the tag before it, if that is of the same type."""
    return letter in CONTINUING and before != OUTSIDE and before not in CLOSING


def spans_of_tags(tags: Iterable[str]) -> list[Span]:
    """The entities of a row of tags, of any scheme.

    Tags that break their scheme are read as by conlleval: what cannot go on with an entity begins one, and what is not
    closed ends before the next.
    """
    spans: list[Span] = []
    before, type_before, start = OUTSIDE, "", 0
    place = 0
    for place, (letter, type) in enumerate(map(split_tag, (*tags, OUTSIDE))):
        if letter == before == OUTSIDE or (type == type_before and continues(letter, before)):
            before = letter
            continue
        if before != OUTSIDE:
            spans.append(Span(start, place, type_before))
        before, type_before, start = letter, type, place
    return spans


def tags_of_spans(spans: Sequence[Span], length: int, scheme: str) -> list[str]:
    """The tags of a row of `length` words with these entities, which stand in order and do not overlap."""
    tags = [OUTSIDE] * length
    for span, letters in zip(spans, _letters(spans, scheme), strict=True):
        tags[span.start : span.end] = [f"{letter}-{span.label}" if letter else span.label for letter in letters]
    return tags


def _letters(spans: Sequence[Span], scheme: str) -> list[list[str]]:
    """What stands before the type in the tags of each span."""
    only, first, middle, last = LETTERS[scheme]
    found: list[list[str]] = []
    before = Span(-1, -1, "")
    for span in spans:
        touching = scheme == "IOB1" and (span.start, span.label) == (before.end, before.label)
        inner = span.end - span.start - 2
        letters = [only] if inner < 0 else [first, *[middle] * inner, last]
        found.append(["B", *letters[1:]] if touching else letters)
        before = span
    return found


def label_names(types: Iterable[str], scheme: str, outside: bool = True) -> tuple[str, ...]:
    """The classes of a model that tags with these types: "O", where there is an outside, and the tags by type."""
    letters = sorted({*LETTERS[scheme], *("B" * (scheme == "IOB1"))}, key="BIMELSU".index)
    tags = (f"{letter}-{type}" if letter else type for type in sorted(types) for letter in letters)
    return (*([OUTSIDE] * outside), *tags)


@dataclass(frozen=True)
class Recognised:
    """What rows of tags are."""

    scheme: str
    """A key of `LETTERS`."""
    spans: list[list[Span]]
    """The entities of each row."""
    irregular: list[int]
    """How many entities of each row have tags that the scheme would not give them, as I-X after O in BIO."""
    misfits: dict[int, tuple[int, str]]
    """The rows with a tag that does not go with those before: its place in the row, and what is wrong with it."""


def recognise(rows: Sequence[Sequence[str]]) -> Recognised:
    """Tell the scheme of rows of tags, and read them.

    It is the one that has the letters of all tags. BIO and IOB1, which have the same, are told apart by which leaves
    fewer entities irregular; in doubt it is BIO. Rows of `misfits` have no entities here.
    """
    fitting = list(LETTERS)
    seen = {OUTSIDE}
    misfits = {}
    spans: list[list[Span]] = []
    for number, tags in enumerate(rows):
        different = dict.fromkeys(tags)
        for tag in different:
            remaining = fitting if tag in seen else narrow(fitting, tag)
            if not remaining:
                misfits[number] = tags.index(tag), misfit(fitting, tag)
                break
            fitting = remaining
            seen.add(tag)
        has_entities = number not in misfits and (len(different) > 1 or OUTSIDE not in different)
        spans.append(spans_of_tags(tags) if has_entities else [])
    # Of more than two, the first two are BIO and IOB1, whose letters the others have too.
    irregular = {scheme: [_irregular(*row, scheme) for row in zip(rows, spans, strict=True)] for scheme in fitting[:2]}
    scheme = min(irregular, key=lambda scheme: sum(irregular[scheme]))
    return Recognised(scheme, spans, irregular[scheme], misfits)


def narrow(fitting: Iterable[str], tag: str) -> list[str]:
    """Those of some schemes that have a tag's letter."""
    letter = split_tag(tag)[0]
    return [s for s in fitting if letter in LETTERS[s] or letter == OUTSIDE or (s == "IOB1" and letter == "B")]


def misfit(fitting: Sequence[str], tag: str) -> str:
    """What is wrong with a tag where `narrow` leaves no scheme."""
    if not narrow(LETTERS, tag):
        return f"tag {tag!r} is of no known scheme ({', '.join(LETTERS)})"
    return f"tag {tag!r} does not go with the tags before it, which are {' or '.join(fitting)}"


def _irregular(tags: Sequence[str], spans: Sequence[Span], scheme: str) -> int:
    read = [[split_tag(tag)[0] for tag in tags[span.start : span.end]] for span in spans]
    return sum(got != due for got, due in zip(read, _letters(spans, scheme), strict=True))
