"""Text files to records: TSV, CSV and JSONL, plain or gzipped, with errors that name file and line."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kbert.data.rows import Row, decode, json_rows, no_record, open_bytes, read_utf8, table_rows, text_problem
from kbert.errors import InputError

TEXT_COLUMNS = ("text", "sentence", "sentence1", "text_a")
PAIR_COLUMNS = ("text_pair", "sentence2", "text_b")
LABEL_COLUMNS = ("label",)
FORMATS = (".tsv", ".csv", ".jsonl")
_CORPUS_LINES = 256  # in memory at a time


@dataclass
class TextRecords:
    """What a file of texts holds; `pairs` and `labels` are None where the file has no such column."""

    path: Path
    texts: list[str] = field(default_factory=list)
    pairs: list[str] | None = None
    labels: list[str] | None = None
    lines: list[int] = field(default_factory=list)
    """The line of each record, from 1."""
    skipped: int = 0
    """Bad lines passed over."""

    def __len__(self) -> int:
        return len(self.texts)

    def check_labels(self, known: Iterable[str], complaint: str) -> None:
        """Raise InputError, which names the line and ends in `complaint`, for the first label that is not known."""
        names = set(known)
        for line, label in zip(self.lines, self.labels or (), strict=True):
            if label not in names:
                raise InputError(f"{self.path}:{line}: label {label!r} {complaint}")


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read; None: the first of the known names that the file has."""

    text: str | None = None
    pair: str | None = None
    label: str | None = None


def read_texts(
    path: str | Path, columns: Columns = Columns(), *, labelled: bool = True, skip_bad_lines: bool = False
) -> TextRecords:
    """Read a file of texts.

    Args:
        path: a `.tsv` or `.csv` file with a header or a `.jsonl` file, UTF-8, optionally `.gz`. Quotes mean nothing
            in TSV and group a field in CSV.
        columns: names of the columns.
        labelled: whether every record must have a label; otherwise labels are not read.
        skip_bad_lines: count bad lines and go on instead of raising.

    Raises:
        InputError: names the file and line of the first bad record, or what the file lacks.
    """
    path = Path(path)
    format = table_format(path)
    if format is None:
        raise InputError(f"{path}: the name must end in {', '.join(FORMATS)} (and .gz if compressed)")
    text = read_utf8(path)
    rows = json_rows(path, text) if format == ".jsonl" else table_rows(path, text, format)
    return _collect(path, rows, columns, labelled, skip_bad_lines)


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


def _collect(path: Path, rows: Iterator[Row], columns: Columns, labelled: bool, skip_bad_lines: bool) -> TextRecords:
    records = TextRecords(path)
    found = list(rows)
    header = {name: None for _, row in found if not isinstance(row, str) for name in row}
    if header:
        names = _column_names(path, header, columns, labelled)
        records.pairs = [] if names["pair"] else None
        records.labels = [] if names["label"] else None
    for line, row in found:
        problem = row if isinstance(row, str) else _append(records, line, row, names)
        if problem and not skip_bad_lines:
            raise InputError(f"{path}:{line}: {problem}")
        records.skipped += problem is not None
    if not records.texts:
        raise no_record(path, records.skipped)
    return records


def _column_names(path: Path, row: Mapping[str, object], columns: Columns, labelled: bool) -> dict[str, str | None]:
    def find(kind: str, asked: str | None, known: tuple[str, ...], required: bool) -> str | None:
        if asked is not None and asked not in row:
            raise InputError(f"{path} has no column {asked!r}; it has {', '.join(map(repr, row))}")
        name = asked or next((name for name in known if name in row), None)
        if name is None and required:
            raise InputError(
                f"{path} has no {kind} column ({' or '.join(known)}); it has {', '.join(map(repr, row))}: "
                f"name it with --{kind}-column"
            )
        return name

    return {
        "text": find("text", columns.text, TEXT_COLUMNS, True),
        "pair": find("pair", columns.pair, PAIR_COLUMNS, False),
        "label": find("label", columns.label, LABEL_COLUMNS, True) if labelled else None,
    }


def _append(records: TextRecords, line: int, row: Mapping[str, object], names: Mapping[str, str | None]) -> str | None:
    """Add one record; returns what is wrong with it instead, if anything."""
    values: dict[str, str] = {}
    for kind, name in names.items():
        if name is None:
            continue
        value = row.get(name)
        if kind == "label" and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if problem := text_problem(name, value):
            return problem
        values[kind] = str(value)
    records.texts.append(values["text"])
    if records.pairs is not None:
        records.pairs.append(values["pair"])
    if records.labels is not None:
        records.labels.append(values["label"])
    records.lines.append(line)
    return None
