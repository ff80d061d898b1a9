"""Text files to records: TSV, CSV and JSONL, plain or gzipped, with errors that name file and line."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbert.data.labels import LABEL_COLUMNS, LabelKind, LabelReader
from kbert.data.rows import (
    Row,
    decode,
    json_rows,
    lines_of,
    no_record,
    open_bytes,
    read_utf8,
    table_rows,
    text_problem,
)
from kbert.errors import InputError

TEXT_COLUMNS = ("text", "sentence", "sentence1", "text_a")
PAIR_COLUMNS = ("text_pair", "sentence2", "text_b")
FORMATS = (".tsv", ".csv", ".jsonl")
_CORPUS_LINES = 256  # in memory at a time


@dataclass
class TextRecords:
    """What a file of texts holds; `pairs` and `labels` are None where the file has no such column."""

    path: Path
    texts: list[str] = field(default_factory=list)
    pairs: list[str] | None = None
    labels: list[Any] | None = None
    """A text each; a list of texts or a float, where `read_texts` was asked for these."""
    lines: list[int] = field(default_factory=list)
    """The line of each record, from 1."""
    skipped: int = 0
    """Bad lines passed over."""

    def __len__(self) -> int:
        return len(self.texts)

    def check_labels(self, known: Iterable[str], complaint: str) -> None:
        """Raise InputError, which names the line and ends in `complaint`, for the first label that is not known."""
        names = set(known)
        for line, labels in zip(self.lines, self.labels or (), strict=True):
            for label in labels if isinstance(labels, list) else [labels]:
                if label not in names:
                    raise InputError(f"{self.path}:{line}: label {label!r} {complaint}")


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read; None: the first of the known names that the file has."""

    text: str | None = None
    pair: str | None = None
    label: str | None = None
    """For several labels a record, it can be several columns with commas between."""


def read_texts(
    path: str | Path,
    columns: Columns = Columns(),
    *,
    labelled: bool | None = True,
    skip_bad_lines: bool = False,
    labels: LabelKind = "single",
) -> TextRecords:
    """Read a file of texts.

    Args:
        path: a `.tsv` or `.csv` file with a header or a `.jsonl` file, UTF-8, optionally `.gz`. Quotes mean nothing
            in TSV and group a field in CSV.
        columns: names of the columns.
        labelled: whether every record must have a label; None: if the file has a column of them; False: labels are not
            read.
        skip_bad_lines: count bad lines and go on instead of raising.
        labels: what a record's label is. "single": a text; numbers in JSONL become texts, and do not mix with texts
            that are no numbers. "multiple": any number of texts: a list in JSONL, joined by "|" in a field of TSV and
            CSV (an empty one has none), or a column for each label, named in `columns`, that holds 0 or 1. "number": a
            finite number.

    Raises:
        InputError: names the file and line of the first bad record, or what the file lacks.
    """
    path = Path(path)
    format = table_format(path)
    if format is None:
        raise InputError(f"{path}: the name must end in {', '.join(FORMATS)} (and .gz if compressed)")
    text = read_utf8(path)
    lines = lines_of(text, format)
    rows = json_rows(lines) if format == ".jsonl" else table_rows(path, lines, format)
    return _collect(path, rows, columns, None if labelled is False else labels, labelled is None, skip_bad_lines)


def read_corpus(files: Iterable[str], columns: Columns = Columns()) -> Iterator[str]:
    """The texts of files one after another: columns of tables (`read_texts`), lines of other files (`read_lines`)."""
    for file in files:
        if file != "-" and table_format(Path(file)):
            records = read_texts(file, columns, labelled=False)
            yield from (*records.texts, *(records.pairs or ()))
        else:
            for chunk in read_lines(file, _CORPUS_LINES):
                yield from chunk.texts


def table_format(path: Path) -> str | None:
    """The format that a file's name says, of `FORMATS`; None for plain lines."""
    return next((f for f in FORMATS if path.name.lower().removesuffix(".gz").endswith(f)), None)


def read_lines(file: str, chunk: int) -> Iterator[TextRecords]:
    """Plain text, one record a line, in chunks; blank lines are records too, so that answers line up with lines.

    Args:
        file: a path, or "-" for stdin, which is read as it comes.
        chunk: most records of one chunk.

    Raises:
        InputError: the file does not exist, is empty, or is not UTF-8.
    """
    path = Path("stdin" if file == "-" else file)
    lines = 0
    with open_bytes(file) as source:
        while batch := list(itertools.islice(source, chunk)):
            records = TextRecords(path)
            for line in batch:
                lines += 1
                records.texts.append(decode(line, path, first_line=lines).rstrip("\r\n"))
                records.lines.append(lines)
            yield records
    if not lines:
        raise InputError(f"{path} is empty")


def _collect(
    path: Path, rows: Iterator[Row], columns: Columns, labels: LabelKind | None, optional: bool, skip_bad_lines: bool
) -> TextRecords:
    records = TextRecords(path)
    found = list(rows)
    header = {name: None for _, row in found if not isinstance(row, str) for name in row}
    names, reader = {}, None
    if header:
        names = _text_columns(path, header, columns)
        records.pairs = [] if "pair" in names else None
        if optional and labels is not None and not (columns.label or set(LABEL_COLUMNS[labels]) & set(header)):
            labels = None
    if header and labels is not None:
        reader = LabelReader(labels, _label_columns(path, header, columns.label, labels))
        records.labels = []
    for line, row in found:
        problem = row if isinstance(row, str) else _append(records, line, row, names, reader)
        if problem and not skip_bad_lines:
            raise InputError(f"{path}:{line}: {problem}")
        records.skipped += problem is not None
    if not records.texts:
        raise no_record(path, records.skipped)
    return records


Header = Mapping[str, None]  # the names of the columns, in order


def _text_columns(path: Path, header: Header, columns: Columns) -> dict[str, str]:
    names = {
        "text": find_column(path, header, "text", columns.text, TEXT_COLUMNS, True),
        "pair": find_column(path, header, "pair", columns.pair, PAIR_COLUMNS, False),
    }
    return {kind: name for kind, name in names.items() if name is not None}


def _label_columns(path: Path, header: Header, asked: str | None, labels: LabelKind) -> tuple[str, ...]:
    several = labels == "multiple" and asked is not None and asked not in header and "," in asked
    wanted = dict.fromkeys(name.strip() for name in str(asked).split(",")) if several else [asked]
    return tuple(str(find_column(path, header, "label", name, LABEL_COLUMNS[labels], True)) for name in wanted)


def find_column(
    path: Path, header: Header, kind: str, asked: str | None, known: tuple[str, ...], required: bool
) -> str | None:
    """The column asked for, or the first of the known ones that a file has; InputError where it lacks it."""
    if asked is not None and asked not in header:
        raise InputError(f"{path} has no column {asked!r}; it has {', '.join(map(repr, header))}")
    name = asked or next((name for name in known if name in header), None)
    if name is None and required:
        raise InputError(
            f"{path} has no {kind} column ({' or '.join(known)}); it has {', '.join(map(repr, header))}: "
            f"name it with --{kind}-column"
        )
    return name


def _append(
    records: TextRecords, line: int, row: Mapping[str, object], names: Mapping[str, str], reader: LabelReader | None
) -> str | None:
    """Add one record; returns what is wrong with it instead, if anything."""
    values = [row.get(name) for name in names.values()]
    for name, value in zip(names.values(), values, strict=True):
        if problem := text_problem(name, value):
            return problem
    if reader is not None and records.labels is not None:
        label, problem = reader.read(row)
        if problem:
            return problem
        records.labels.append(label)
    records.texts.append(str(values[0]))
    if records.pairs is not None:
        records.pairs.append(str(values[1]))
    records.lines.append(line)
    return None
