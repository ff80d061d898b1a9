"""Files of questions about a context to records: SQuAD 1.1 and 2.0, CMRC 2018, JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kbert.data.rows import json_rows, no_record, read_utf8, text_problem
from kbert.errors import InputError

FORMATS = (".json", ".jsonl")


class Answer(NamedTuple):
    """A stretch of a context."""

    text: str
    start: int
    """Its first character; -1: the context does not hold the text, as with some of CMRC's."""


@dataclass
class AnswerRecords:
    """What a file of questions holds."""

    path: Path
    ids: list[str] = field(default_factory=list)
    """What the file calls each question; its place where it has no name."""
    questions: list[str] = field(default_factory=list)
    contexts: list[str] = field(default_factory=list)
    answers: list[list[Answer]] = field(default_factory=list)
    """Those of each question that count as right, at least one of them in its context; none for a question that the
    context does not answer, and where answers are not read."""
    places: list[str] = field(default_factory=list)
    """Of each question: its line, or a path such as `data[3].paragraphs[0].qas[2]`."""
    skipped: int = 0
    """Bad records passed over."""
    moved: int = 0
    """Answers that were not where the file says, and now are at the nearest place that holds their text."""
    absent: int = 0
    """Answers with a start of -1."""

    def __len__(self) -> int:
        return len(self.questions)


def read_answers(path: str | Path, *, labelled: bool = True, skip_bad_lines: bool = False) -> AnswerRecords:
    """Read a file of questions.

    A name that ends in `.json` is SQuAD's: `{"data": [{"paragraphs": [{"context": …, "qas": [{"id": …, "question": …,
    "answers": [{"text": …, "answer_start": 0}], "is_impossible": false}]}]}]}`. One that ends in `.jsonl` has an object
    a line with `question`, `context`, and, if wanted, `id`, `answers` and `is_impossible`; its answers can be texts
    alone, or columns (`{"text": […], "answer_start": […]}`).

    Args:
        path: The file, UTF-8, optionally `.gz`.
        labelled: Whether every question must have its list of answers; otherwise they are not read.
        skip_bad_lines: Count bad records and go on instead of raising. A question is bad, too, if it has answers of
            which its context holds none.

    Raises:
        InputError: Names the file and line, or the place in the JSON, of the first bad record, or what the file lacks.
    """
    path = Path(path)
    format = next((f for f in FORMATS if path.name.lower().removesuffix(".gz").endswith(f)), None)
    if format is None:
        raise InputError(f"{path}: the name must end in {' or '.join(FORMATS)} (and .gz if compressed)")
    text = read_utf8(path)
    rows = json_rows(text.split("\n")) if format == ".jsonl" else _squad_rows(path, text)
    records = AnswerRecords(path)
    ids: dict[str, str] = {}
    for place, row in rows:
        problem = row if isinstance(row, str) else _append(records, str(place), row, labelled, ids)
        if problem and not skip_bad_lines:
            raise InputError(f"{path}:{place}: {problem}")
        records.skipped += problem is not None
    if not records.questions:
        raise no_record(path, records.skipped)
    return records


def _squad_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    """The questions of a SQuAD file with the context in each, and their places."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error})") from None
    for article_place, article in _listed(document, "data", ""):
        for paragraph_place, paragraph in _listed(article, "paragraphs", article_place):
            for place, row in _listed(paragraph, "qas", paragraph_place):
                yield place, row if isinstance(row, str) else {**row, "context": paragraph.get("context")}


def _listed(parent: Any, name: str, place: str) -> Iterator[tuple[str, Any]]:
    """The objects of a list in an object and their places; instead of an object a text that says what is wrong."""
    if isinstance(parent, str):
        yield place, parent
        return
    values = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(values, list):
        yield place or "1", f"no list {name!r}, which SQuAD's files have there"
        return
    for i, value in enumerate(values):
        yield f"{place}{'.' * bool(place)}{name}[{i}]", value if isinstance(value, dict) else "not a JSON object"


def _append(
    records: AnswerRecords, place: str, row: Mapping[str, Any], labelled: bool, ids: dict[str, str]
) -> str | None:
    """Add one record; returns what is wrong with it instead, if anything."""
    for name in ("question", "context"):
        if problem := text_problem(name, row.get(name)):
            return problem
    id = place if row.get("id") is None else str(row["id"])
    if id in ids:
        return f"the id {id!r} is that of {ids[id]}, too"
    answers = _answers(row) if labelled else []
    if isinstance(answers, str):
        return answers
    context = row["context"]
    found = [_locate(context, text, start) for text, start in answers]
    if found and all(answer.start < 0 for answer in found):
        return f"the context holds none of the answers ({', '.join(repr(answer.text) for answer in found)})"
    stated = [(start, answer.start) for (_, start), answer in zip(answers, found, strict=True) if answer.start >= 0]
    records.moved += sum(start not in (None, now) for start, now in stated)
    records.absent += len(found) - len(stated)
    ids[id] = place
    records.ids.append(id)
    records.questions.append(row["question"])
    records.contexts.append(context)
    records.answers.append(found)
    records.places.append(place)
    return None


def _answers(row: Mapping[str, Any]) -> list[tuple[str, int | None]] | str:
    """Texts and stated starts of the answers of a row, or what is wrong with them."""
    answers = row.get("answers")
    if isinstance(answers, dict) and isinstance(answers.get("text"), list):
        starts = answers.get("answer_start", [None] * len(answers["text"]))
        if not isinstance(starts, list) or len(starts) != len(answers["text"]):
            return "'answers' must have as many of 'answer_start' as of 'text'"
        answers = [{"text": text, "answer_start": start} for text, start in zip(answers["text"], starts, strict=True)]
    if not isinstance(answers, list):
        return "no list 'answers'"
    if answers and row.get("is_impossible"):
        return "'is_impossible' is set, but there are answers"
    found = []
    for answer in answers:
        if not isinstance(answer, dict):
            answer = {"text": answer}
        start = answer.get("answer_start")
        if problem := text_problem("text of an answer", answer.get("text")):
            return problem
        if start is not None and type(start) is not int:
            return f"'answer_start' must be a whole number, not {start!r}"
        found.append((answer["text"], start))
    return found


def _locate(context: str, text: str, start: int | None) -> Answer:
    """An answer where its text is, at or nearest to its stated start."""
    start = max(0, start or 0)
    before, behind = context.rfind(text, 0, start + len(text)), context.find(text, start)
    nearest = min((place for place in (before, behind) if place >= 0), key=lambda place: abs(place - start), default=-1)
    return Answer(text, nearest)
