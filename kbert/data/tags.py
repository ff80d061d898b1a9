"""Files of tagged texts to records: CoNLL columns, JSON lines with entities, CLUENER's JSON lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from kbert.data.rows import json_rows, no_record, read_utf8, text_problem
from kbert.data.schemes import OUTSIDE, Span, recognise
from kbert.errors import InputError

JSON_FORMATS = (".jsonl", ".json")
_COMMENT = re.compile(r"#\s*\w+\s*=\s")
_CHARACTER_LEVEL = 0.9  # of the words of a file have one character: they are characters, not words


@dataclass
class TaggedRecords:
    """What a file of tagged texts holds."""

    path: Path
    texts: list[str] = field(default_factory=list)
    spans: list[list[Span]] = field(default_factory=list)
    """The entities of each text in order, in characters; none where labels are not read."""
    lines: list[int] = field(default_factory=list)
    """The line of each record, from 1: of a sentence in columns that of its first word."""
    skipped: int = 0
    """Bad records passed over."""
    repaired: int = 0
    """Entities whose tags break the scheme of the file, and which are read as conlleval does."""
    first_repaired: int | None = None
    """The line of the first sentence that has one."""
    scheme: str | None = None
    """The scheme of the tags, a key of `kbert.data.schemes.LETTERS`; None: the file has entities, not tags."""
    outside: bool = True
    """Whether there may be words of no entity; else, as with parts of speech, every word has a tag that is not "O"."""

    def __len__(self) -> int:
        return len(self.texts)

    def types(self) -> list[str]:
        """The types of entities, sorted."""
        return sorted({span.label for spans in self.spans for span in spans})

    def check_labels(self, known: Iterable[str], complaint: str) -> None:
        """Raise InputError, which names the line and ends in `complaint`, for the first type that is not known."""
        names = set(known)
        for line, spans in zip(self.lines, self.spans, strict=True):
            for span in spans:
                if span.label not in names:
                    raise InputError(f"{self.path}:{line}: label {span.label!r} {complaint}")


def read_tags(path: str | Path, *, labelled: bool = True, skip_bad_lines: bool = False) -> TaggedRecords:
    """Read a file of tagged texts.

    A name that ends in `.jsonl` or `.json` is of JSON lines: `{"text": …, "entities": [{"start": 0, "end": 3, "label":
    "name"}]}`, in characters, ends exclusive; or CLUENER's `{"text": …, "label": {"name": {"李明": [[9, 10]]}}}`, ends
    inclusive. Any other name is of columns: a word a line, the word first and its tag last, with tabs or spaces
    between, and a blank line behind each sentence. Lines of `-DOCSTART-` are passed over, and so are comments before a
    sentence, lines of "#" that read `# name = value` or have another number of columns. The words of a sentence make a
    text with a space between; without, where nine of ten words of the file have one character, as in Chinese sets that
    tag characters.

    Args:
        path: The file, UTF-8, optionally `.gz`.
        labelled: Whether every record must have tags or entities; otherwise they are not read.
        skip_bad_lines: Count records with a bad line and go on instead of raising.

    Raises:
        InputError: Names the file and line of the first bad record, or what the file lacks.
    """
    path = Path(path)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".conllu"):
        raise InputError(f"{path}: CoNLL-U has the word in its second column; write the word first and the tag last")
    text = read_utf8(path)
    records = TaggedRecords(path)
    if name.endswith(JSON_FORMATS):
        _collect_json(records, text, labelled, skip_bad_lines)
    else:
        _collect_columns(records, text, labelled, skip_bad_lines)
    if not records.texts:
        raise no_record(path, records.skipped)
    return records


def _complain(records: TaggedRecords, line: int, problem: str, skip_bad_lines: bool) -> None:
    if not skip_bad_lines:
        raise InputError(f"{records.path}:{line}: {problem}")
    records.skipped += 1


# === Columns ===


class _Sentence(NamedTuple):
    line: int
    """Of its first word; every word has a line of its own."""
    words: list[str]
    tags: list[str]


def _collect_columns(records: TaggedRecords, text: str, labelled: bool, skip_bad_lines: bool) -> None:
    sentences = []
    for sentence, problem in _sentences(text.split("\n"), 2 if labelled else 1):
        if problem:
            _complain(records, *problem, skip_bad_lines)
        else:
            sentences.append(sentence)
    found = recognise([sentence.tags for sentence in sentences] if labelled else [[]] * len(sentences))
    words = [len(word) for sentence in sentences for word in sentence.words]
    separator = "" if words.count(1) >= _CHARACTER_LEVEL * len(words) else " "
    for number, sentence in enumerate(sentences):
        if number in found.misfits:
            place, complaint = found.misfits[number]
            _complain(records, sentence.line + place, complaint, skip_bad_lines)
            continue
        starts = [0, *accumulate(len(word) + len(separator) for word in sentence.words)]
        records.texts.append(separator.join(sentence.words))
        records.spans.append(
            [Span(starts[span.start], starts[span.end] - len(separator), span.label) for span in found.spans[number]]
        )
        records.lines.append(sentence.line)
    if labelled:
        records.repaired, records.scheme = sum(found.irregular), found.scheme
        irregular = zip(sentences, found.irregular, strict=True)
        records.first_repaired = next((sentence.line for sentence, number in irregular if number), None)
        records.outside = any(OUTSIDE in sentence.tags for sentence in sentences)


def _sentences(lines: list[str], least: int) -> Iterator[tuple[_Sentence, tuple[int, str] | None]]:
    """The sentences of lines of at least `least` columns, and the line of what is wrong with a bad one."""
    counts = (len(_fields(line)) for line in lines if not line.startswith(("#", "-DOCSTART-")))
    columns = next((count for count in counts if count >= least), least)
    sentence, problem = _Sentence(1, [], []), None
    for number, line in enumerate([*lines, ""], 1):
        fields = _fields(line)
        if not fields or fields[0] == "-DOCSTART-":
            if sentence.words:
                yield sentence, problem
            sentence, problem = _Sentence(number + 1, [], []), None
        elif not sentence.words and line[0] == "#" and (len(fields) != columns or _COMMENT.match(line)):
            sentence = _Sentence(number + 1, [], [])
        else:
            problem = problem or _line_problem(number, fields, columns, least)
            sentence.words.append(fields[0])
            sentence.tags.append(fields[-1])


def _fields(line: str) -> list[str]:
    """The columns of a line; only tabs and plain spaces are between them, for other white space can be a word."""
    line = line.rstrip(" \t\r")
    return line.split("\t") if "\t" in line else [field for field in line.split(" ") if field]


def _line_problem(number: int, fields: list[str], columns: int, least: int) -> tuple[int, str] | None:
    if len(fields) < least:
        return number, f"{fields[0]!r} stands alone; a line is a word and its tag with a tab or space between"
    if len(fields) != columns:
        return number, f"{len(fields)} columns where other lines have {columns}"
    return None if fields[0] else (number, "no word in the first column")


# === JSON lines ===

Entity = tuple[Any, Any, Any]  # start, end and label, not yet checked


def _collect_json(records: TaggedRecords, text: str, labelled: bool, skip_bad_lines: bool) -> None:
    for line, row in json_rows(text.split("\n")):
        spans: list[Span] | str = []
        if isinstance(row, str):
            spans = row
        elif problem := text_problem("text", row.get("text")):
            spans = problem
        elif labelled:
            spans = _entities(row)
        if isinstance(row, str) or isinstance(spans, str):
            _complain(records, line, str(spans), skip_bad_lines)
            continue
        records.texts.append(str(row["text"]))
        records.spans.append(spans)
        records.lines.append(line)


def _entities(row: Mapping[str, Any]) -> list[Span] | str:
    """The entities of a row, or what is wrong with them."""
    text = row["text"]
    if isinstance(row.get("entities"), list):
        found = _listed(row["entities"])
    elif isinstance(row.get("label"), dict):
        found = _cluener(text, row["label"])
    else:
        return "no list 'entities' (nor CLUENER's 'label')"
    if isinstance(found, str):
        return found
    for start, end, label in found:
        if problem := text_problem("label", label):
            return problem
        if type(start) is not int or type(end) is not int:
            return f"'start' and 'end' of an entity must be whole numbers, not {start!r} and {end!r}"
        if not 0 <= start < end <= len(text):
            wrong = "is empty" if start == end else f"is not inside the text of {len(text)} characters"
            return f"entity {label!r} from {start} to {end} {wrong}"
    spans = sorted(Span(*entity) for entity in found)
    for one, other in pairwise(spans):
        if other.start < one.end:
            return (
                f"entities {one.label!r} from {one.start} to {one.end} and {other.label!r} from {other.start} to "
                f"{other.end} overlap; a character can be of one only"
            )
    return spans


def _listed(entities: list[Any]) -> list[Entity] | str:
    for entity in entities:
        if not isinstance(entity, dict) or not {"start", "end", "label"} <= entity.keys():
            return f"an entity must have 'start', 'end' and 'label'. Received: {entity!r}"
    return [(entity["start"], entity["end"], entity["label"]) for entity in entities]


def _cluener(text: str, labels: dict[str, Any]) -> list[Entity] | str:
    found: list[Entity] = []
    for label, names in labels.items():
        for name, places in names.items() if isinstance(names, dict) else [(names, None)]:
            for place in places if isinstance(places, list) else [places]:
                if not isinstance(place, list) or len(place) != 2 or not all(type(end) is int for end in place):
                    return f"'label' must be {{type: {{entity: [[first, last], …]}}}}. Received: {label!r}: {names!r}"
                start, end = place[0], place[1] + 1
                if 0 <= start < end and text[start:end] != name:
                    return f"entity {name!r} is not at {place}, where the text has {text[start:end]!r}"
                found.append((start, end, label))
    return found
