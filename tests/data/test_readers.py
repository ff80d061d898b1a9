"""Text files: every format, and errors that name file and line."""

from __future__ import annotations

import gzip
import io
import sys

import pytest

from kbert.data.readers import Columns, read_lines, read_texts
from kbert.errors import InputError


def write(folder, name, text, encoding="utf8"):
    path = folder / name
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", 'text\tlabel\nsay "hi\tx\n好的\ty\n'),
        ("a.tsv", 'text\tlabel\r\nsay "hi\tx\r\n\r\n好的\ty\r\n'),
        ("a.tsv", '\ufefftext\tlabel\nsay "hi\tx\n好的\ty'),
        ("a.tsv.gz", 'text\tlabel\nsay "hi\tx\n好的\ty\n'),
        ("a.csv", 'label,text\nx,"say ""hi"\ny,好的\n'),
        ("a.jsonl", '{"text": "say \\"hi", "label": "x"}\n\n{"label": "y", "text": "好的"}\n'),
        ("a.jsonl.gz", '{"text": "say \\"hi", "label": "x"}\n{"label": "y", "text": "好的"}\n'),
    ],
)
def test_formats(tmp_path, name, text):
    records = read_texts(write(tmp_path, name, text))
    assert (records.texts, records.labels, records.pairs) == (['say "hi', "好的"], ["x", "y"], None)


def test_line_numbers_count_lines_of_the_file(tmp_path):
    records = read_texts(write(tmp_path, "a.csv", 'text,label\n"two\nlines",x\n\nlast,y\n'))
    assert (records.texts, records.lines) == (["two\nlines", "last"], [3, 5])


def test_characters_that_other_readers_take_for_line_ends_stay(tmp_path):
    records = read_texts(write(tmp_path, "a.tsv", "text\tlabel\na\u2028b\u0085c\rd\tx\n"))
    assert records.texts == ["a\u2028b\u0085c\rd"]


def test_known_and_named_columns(tmp_path):
    glue = write(tmp_path, "glue.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tx\n")
    records = read_texts(glue)
    assert (records.texts, records.pairs) == (["a"], ["b"])
    own = write(tmp_path, "own.csv", "question,reply,topic\na,b,x\n")
    records = read_texts(own, Columns("question", "reply", "topic"))
    assert (records.texts, records.pairs, records.labels) == (["a"], ["b"], ["x"])


def test_a_number_in_json_is_a_label(tmp_path):
    assert read_texts(write(tmp_path, "a.jsonl", '{"text": "a", "label": 1}\n')).labels == ["1"]


def test_labels_are_not_asked_for_when_predicting(tmp_path):
    assert read_texts(write(tmp_path, "a.tsv", "text\na\n"), labelled=False).labels is None


# === Several labels, and numbers ===


@pytest.mark.parametrize(
    ("name", "text", "column"),
    [
        ("a.jsonl", '{"text": "t", "label": ["b", "a", "b"]}\n{"text": "u", "label": []}\n', None),
        ("a.jsonl", '{"text": "t", "labels": ["b", "a"]}\n{"text": "u", "labels": []}\n', None),
        ("a.tsv", "text\tlabel\nt\tb | a\nu\t\n", None),
        ("a.csv", "tags,text\nb|a,t\n,u\n", "tags"),
        ("a.tsv", "text\tb\ta\tc\nt\t1\t1\t0\nu\t0\t0\t0\n", "b, a,c"),
        ("a.jsonl", '{"text": "t", "b": true, "a": 1}\n{"text": "u", "b": 0, "a": false}\n', "b,a"),
        ("a.csv", 'text,"b,a"\nt,b|a\nu,\n', "b,a"),
    ],
)
def test_several_labels(tmp_path, name, text, column):
    records = read_texts(write(tmp_path, name, text), Columns(label=column), labels="multiple")
    assert (records.texts, records.labels) == (["t", "u"], [["b", "a"], []])
    records.check_labels(["a", "b"], "is new")
    with pytest.raises(InputError, match="label 'a' is new"):
        records.check_labels(["b"], "is new")


@pytest.mark.parametrize(
    ("name", "text", "column"),
    [
        ("a.tsv", "text\tscore\nt\t3.50\nu\t-1e1\n", None),
        ("a.jsonl", '{"text": "t", "label": 3.5}\n{"text": "u", "label": "-10"}\n', None),
        ("a.csv", "text,stars,label\nt,3.5,x\nu,-10,y\n", "stars"),
    ],
)
def test_numbers(tmp_path, name, text, column):
    assert read_texts(write(tmp_path, name, text), Columns(label=column), labels="number").labels == [3.5, -10.0]


def test_numbers_and_texts_that_spell_them_are_one_label(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "t", "label": 1}\n{"text": "u", "label": "1"}\n')
    assert read_texts(path).labels == ["1", "1"]
    path = write(tmp_path, "b.jsonl", '{"text": "t", "label": "1"}\n{"text": "u", "label": "one"}\n')
    assert read_texts(path).labels == ["1", "one"]


@pytest.mark.parametrize(
    ("labels", "text", "message"),
    [
        ("single", '"x"}\n{"text": "b", "label": 1}', "a.jsonl:2: 'label' is 1 here and 'x' on a line before: numbers"),
        ("single", '1}\n{"text": "b", "label": "x"}', "a.jsonl:2: 'label' is 'x' here and 1 on a line before"),
        ("single", "NaN}", "a.jsonl:1: 'label' must be a text, not nan"),
        ("single", '["x"]}', r"a.jsonl:1: 'label' must be a text, not \['x'\]"),
        ("multiple", '["x", 1]}', "a.jsonl:1: 'label' is 1 here and 'x' on a line before"),
        ("multiple", '["x", null]}', "a.jsonl:1: no value for 'label'"),
        ("multiple", '"x||y"}', "a.jsonl:1: no value for 'label'"),
        ("multiple", "null}", "a.jsonl:1: no value for 'label'"),
        ("multiple", "5}", "a.jsonl:1: 'label' must be a list of texts, not 5"),
        ("number", '1}\n{"text": "b", "label": "high"}', "a.jsonl:2: 'label' must be a finite number, not 'high'"),
        ("number", "NaN}", "a.jsonl:1: 'label' must be a finite number, not nan"),
        ("number", "-Infinity}", "a.jsonl:1: 'label' must be a finite number, not -inf"),
        ("number", '"1_0"}', "a.jsonl:1: 'label' must be a finite number, not '1_0'"),
        ("number", "true}", "a.jsonl:1: 'label' must be a finite number, not True"),
        ("number", "[1]}", r"a.jsonl:1: 'label' must be a finite number, not \[1\]"),
        ("number", '""}', "a.jsonl:1: no value for 'label'"),
        ("number", "1" + "0" * 400 + "}", "a.jsonl:1: 'label' must be a finite number, not 10"),
    ],
)
def test_bad_labels(tmp_path, labels, text, message):
    path = write(tmp_path, "a.jsonl", '{"text": "a", "label": ' + text + "\n")
    with pytest.raises(InputError, match=message):
        read_texts(path, labels=labels)
    assert read_texts(path, labels=labels, labelled=False).texts[0] == "a"


def test_bad_columns_of_labels(tmp_path):
    path = write(tmp_path, "a.tsv", "text\ta\tb\nt\t1\t0\nu\t2\t0\nv\t\t1\n")
    with pytest.raises(InputError, match="a.tsv:3: 'a' must be 0 or 1, not '2'"):
        read_texts(path, Columns(label="a,b"), labels="multiple")
    records = read_texts(path, Columns(label="a,b"), labels="multiple", skip_bad_lines=True)
    assert (records.labels, records.skipped) == ([["a"]], 2)
    with pytest.raises(InputError, match="a.tsv has no column 'c'; it has 'text', 'a', 'b'"):
        read_texts(path, Columns(label="a,c"), labels="multiple")
    with pytest.raises(InputError, match="a.tsv has no column 'a,b'"):
        read_texts(path, Columns(label="a,b"))
    with pytest.raises(InputError, match=r"no label column \(label or score\)"):
        read_texts(path, labels="number")


def test_scores_of_sts_b(real_data):
    records = read_texts(real_data("stsb/dev.tsv"), labels="number")
    assert (len(records), records.skipped, len(records.pairs)) == (1500, 0, 1500)
    assert sum(records.labels) / 1500 == pytest.approx(2.36, abs=0.005)


# === Bad files ===


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "", "a.tsv is empty"),
        ("a.tsv", "text\tlabel\n", "a.tsv holds no record"),
        ("a.tsv", "text\tlabel\na\tx\nb\n", "a.tsv:3: 1 fields where the header names 2"),
        ("a.tsv", "text\tlabel\na\t\n", "a.tsv:2: no value for 'label'"),
        ("a.csv", "text,label\n,x\n", "a.csv:2: no value for 'text'"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"}\n', "a.jsonl:2: no value for 'label'"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text\n', "a.jsonl:2: not JSON"),
        ("a.jsonl", '{"text": "\\ud83d", "label": "x"}\n', "a.jsonl:1: 'text' holds half of a surrogate pair"),
        ("a.csv", 'text,label\n"one,x\ntwo,y\n', "a.csv:3: not CSV"),
        ("a.jsonl", '["a"]\n', "a.jsonl:1: not a JSON object"),
        ("a.jsonl", '{"text": ["a"], "label": "x"}\n', r"a.jsonl:1: 'text' must be a text, not \['a'\]"),
        ("a.tsv", "text\ttag\na\tx\n", "no label column .* it has 'text', 'tag': name it with --label-column"),
        ("a.txt", "a\n", "must end in .tsv, .csv, .jsonl"),
    ],
)
def test_bad_files(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message):
        read_texts(write(tmp_path, name, text))


def test_a_named_column_that_does_not_exist(tmp_path):
    path = write(tmp_path, "a.tsv", "text\tlabel\na\tx\n")
    with pytest.raises(InputError, match="has no column 'mood'; it has 'text', 'label'"):
        read_texts(path, Columns(label="mood"))


def test_latin_1(tmp_path):
    path = write(tmp_path, "a.tsv", "text\tlabel\nfine\tx\ncafé\ty\n", encoding="latin-1")
    with pytest.raises(InputError, match=r"a.tsv:3: byte 0xe9 is not UTF-8"):
        read_texts(path)


def test_a_file_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match="nothing.tsv does not exist"):
        read_texts(tmp_path / "nothing.tsv")


def test_a_damaged_gzip(tmp_path):
    path = write(tmp_path, "a.tsv.gz", "text\tlabel\na\tx\n" * 100)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="a.tsv.gz cannot be read"):
        read_texts(path)


def test_a_gzip_with_wrong_bytes(tmp_path):
    path = write(tmp_path, "a.tsv.gz", "text\tlabel\n" + "".join(f"{i}\tx\n" for i in range(999)))
    content = bytearray(path.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(InputError, match="a.tsv.gz cannot be read"):
        read_texts(path)


def test_columns_of_json_lines_are_those_of_any_line(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b", "label": "x"}\n')
    with pytest.raises(InputError, match="a.jsonl:1: no value for 'label'"):
        read_texts(path)
    assert read_texts(path, skip_bad_lines=True).texts == ["b"]


def test_a_long_field(tmp_path):
    text = "a" * 300_000
    assert read_texts(write(tmp_path, "a.csv", f"text,label\n{text},x\n")).texts == [text]


def test_bad_lines_can_be_skipped_and_are_counted(tmp_path):
    path = write(tmp_path, "a.tsv", "text\tlabel\na\tx\nb\nc\ty\nd\t\n")
    records = read_texts(path, skip_bad_lines=True)
    assert (records.texts, records.lines, records.skipped) == (["a", "c"], [2, 4], 2)


# === Plain lines ===


def test_lines_come_in_chunks_and_blank_ones_count(tmp_path):
    path = write(tmp_path, "a.txt", "one\n\n三\r\nlast")
    chunks = list(read_lines(str(path), 3))
    assert [chunk.texts for chunk in chunks] == [["one", "", "三"], ["last"]]
    packed = write(tmp_path, "a.txt.gz", "one\n三\n")
    assert [chunk.texts for chunk in read_lines(str(packed), 3)] == [["one", "三"]]
    assert [chunk.lines for chunk in chunks] == [[1, 2, 3], [4]]


def test_lines_from_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("好\n".encode())))
    assert [chunk.texts for chunk in read_lines("-", 9)] == [["好"]]


def test_bad_lines_files(tmp_path):
    with pytest.raises(InputError, match="empty.txt is empty"):
        list(read_lines(str(write(tmp_path, "empty.txt", "")), 2))
    with pytest.raises(InputError, match="cannot be read"):
        list(read_lines(str(tmp_path / "nothing.txt"), 2))
    with pytest.raises(InputError, match=r"bad.txt:4: byte 0xe9"):
        list(read_lines(str(write(tmp_path, "bad.txt", "a\nb\nc\ncafé\n", "latin-1")), 2))
