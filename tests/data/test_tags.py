"""Files of tagged texts: every format, and errors that name file and line."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest

from kbert.data.schemes import Span
from kbert.data.tags import read_tags
from kbert.errors import InputError


def write(folder, name, text):
    path = folder / name
    content = text.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def entity_texts(records):
    pairs = zip(records.texts, records.spans, strict=True)
    return [[(text[span.start : span.end], span.label) for span in spans] for text, spans in pairs]


# === Columns ===

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
New NNP I-NP I-LOC
York NNP I-NP I-LOC
Rome NNP I-NP B-LOC

Ann NNP I-NP I-PER
. . O O"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("eng.train", CONLL),
        ("a.conll", CONLL.replace(" ", "\t")),
        ("a.txt", CONLL.replace(" ", "   ").replace("\n", "  \r\n") + "\r\n\r\n"),
        ("a.bio.gz", "\ufeff" + CONLL),
    ],
)
def test_columns(tmp_path, name, text):
    records = read_tags(write(tmp_path, name, text))
    assert records.texts == ["EU rejects New York Rome", "Ann ."]
    assert records.spans == [[Span(0, 2, "ORG"), Span(11, 19, "LOC"), Span(20, 24, "LOC")], [Span(0, 3, "PER")]]
    assert (records.lines, records.scheme, records.repaired, records.skipped) == ([3, 9], "IOB1", 0, 0)
    assert (records.types(), records.outside, len(records)) == (["LOC", "ORG", "PER"], True, 2)


def test_characters_make_a_text_without_spaces(tmp_path):
    text = "他 O\n叫 O\n李 B-PER\n明 E-PER\n😀 O\n。 O\n\n在 O\nIBM S-ORG\n　 O\n北 B-LOC\n京 E-LOC\n"
    records = read_tags(write(tmp_path, "a.char.bmes", text))
    assert records.texts == ["他叫李明😀。", "在IBM　北京"]
    assert entity_texts(records) == [[("李明", "PER")], [("IBM", "ORG"), ("北京", "LOC")]]
    assert records.scheme == "BIOES"


def test_parts_of_speech(tmp_path):
    records = read_tags(write(tmp_path, "a.tsv", "The\tDT\nbig dog\tNN\n.\t.\n"))
    assert records.texts == ["The big dog ."]
    assert records.spans == [[Span(0, 3, "DT"), Span(4, 11, "NN"), Span(12, 13, ".")]]
    assert (records.scheme, records.outside) == ("plain", False)


def test_comments_are_clearly_so(tmp_path):
    text = "# text = Ann #\n# sent_id = 1\n#begin document (a b c)\nAnn NNP B-PER\n# SYM O\n\n# SYM O\n1 CD O\n"
    records = read_tags(write(tmp_path, "a.conll", text))
    assert (records.texts, records.lines) == (["Ann #", "# 1"], [4, 7])


def test_broken_tags_are_repaired_and_counted(tmp_path):
    text = "of O\n\nAnn B-PER\nLee I-PER\nof O\nNew I-LOC\nYork I-LOC\n\nBob B-PER\nParis I-LOC\n"
    records = read_tags(write(tmp_path, "a.bio", text))
    assert entity_texts(records) == [[], [("Ann Lee", "PER"), ("New York", "LOC")], [("Bob", "PER"), ("Paris", "LOC")]]
    assert (records.scheme, records.repaired, records.first_repaired) == ("BIO", 2, 3)
    assert read_tags(write(tmp_path, "b.bio", "Ann B-PER\n")).first_repaired is None


def test_tags_are_not_asked_for_when_predicting(tmp_path):
    records = read_tags(write(tmp_path, "a.conll", "Ann\nspoke\n\nYes\n"), labelled=False)
    assert (records.texts, records.spans, records.scheme) == (["Ann spoke", "Yes"], [[], []], None)
    assert read_tags(write(tmp_path, "b.conll", "Ann X-PER\n"), labelled=False).texts == ["Ann"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n \n", "a.conll is empty"),
        ("-DOCSTART- O\n\n# id = 5\n\n", "a.conll holds no record"),
        ("Ann B-PER\nspoke\n", "a.conll:2: 'spoke' stands alone; a line is a word and its tag"),
        ("Ann\nspoke\n", "a.conll:1: 'Ann' stands alone"),
        ("Ann B-PER\n\nBob NNP B-PER\n", "a.conll:3: 3 columns where other lines have 2"),
        ("Ann\tB-PER\n\tO\n", "a.conll:2: no word in the first column"),
        ("Ann\tB-PER\nspoke\t\n", "a.conll:2: 'spoke' stands alone"),
        ("Ann B-PER\nof O\n\nNew\tX-LOC\n", "a.conll:4: tag 'X-LOC' is of no known scheme"),
        ("Ann B-PER\nLee I-PER\n\nof O\nNew M-LOC\n", "a.conll:5: tag 'M-LOC' does not go with the tags before it"),
        ("Ann B-PER\nof IN\n", "a.conll:2: tag 'IN' does not go with the tags before it, which are BIO or IOB1"),
    ],
)
def test_bad_columns(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_tags(write(tmp_path, "a.conll", text))


def test_conllu_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a.conllu: CoNLL-U has the word in its second column"):
        read_tags(write(tmp_path, "a.conllu", "1\tAnn\tAnn\tNNP\n"))


def test_bad_sentences_can_be_skipped_and_are_counted(tmp_path):
    text = "Ann B-PER\n\nBob\nof O\nNew\n\nRome B-LOC\nof Q-LOC\n\nParis B-LOC\n"
    records = read_tags(write(tmp_path, "a.conll", text), skip_bad_lines=True)
    assert (records.texts, records.lines, records.skipped) == (["Ann", "Paris"], [1, 10], 2)
    with pytest.raises(InputError, match=r"b.conll holds no record \(and 1 bad ones\)"):
        read_tags(write(tmp_path, "b.conll", "Ann\n"), skip_bad_lines=True)


# === JSON lines ===


def row(text, *entities):
    keys = ("start", "end", "label")
    return json.dumps({"text": text, "entities": [dict(zip(keys, entity, strict=True)) for entity in entities]})


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
def test_json_lines(tmp_path, name):
    text = row("Bob 😀 met Ann", (10, 13, "PER"), (0, 3, "PER")) + "\n\n" + row("no one") + "\n"
    records = read_tags(write(tmp_path, name, text))
    assert records.spans == [[Span(0, 3, "PER"), Span(10, 13, "PER")], []]
    assert entity_texts(records)[0] == [("Bob", "PER"), ("Ann", "PER")]
    assert (records.lines, records.scheme, records.repaired) == ([1, 3], None, 0)


def test_cluener(tmp_path):
    text = '{"text": "浙商银行叶老桂说叶老桂", "label": {"name": {"叶老桂": [[4, 6], [8, 10]]}, '
    text += '"company": {"浙商银行": [[0, 3]]}}}'
    records = read_tags(write(tmp_path, "a.json", text))
    assert entity_texts(records) == [[("浙商银行", "company"), ("叶老桂", "name"), ("叶老桂", "name")]]


def test_entities_are_not_asked_for_when_predicting(tmp_path):
    records = read_tags(write(tmp_path, "a.jsonl", '{"text": "a"}\n' + row("b", (0, 9, "x"))), labelled=False)
    assert (records.texts, records.spans) == (["a", "b"], [[], []])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a.jsonl:1: not JSON"),
        ("[]", "a.jsonl:1: not a JSON object"),
        ('{"entities": []}', "a.jsonl:1: no value for 'text'"),
        (row(""), "a.jsonl:1: no value for 'text'"),
        (row(" "), "a.jsonl:1: 'text' must be a text"),
        (row("a\ud83d"), "a.jsonl:1: 'text' holds half of a surrogate pair"),
        (row("a") + '\n{"text": "a"}', "a.jsonl:2: no list 'entities'"),
        (row("abc", (0, 4, "x")), "a.jsonl:1: entity 'x' from 0 to 4 is not inside the text of 3 characters"),
        (row("abc", (-1, 2, "x")), "a.jsonl:1: entity 'x' from -1 to 2 is not inside"),
        (row("abc", (2, 1, "x")), "a.jsonl:1: entity 'x' from 2 to 1 is not inside"),
        (row("abc", (1, 1, "x")), "a.jsonl:1: entity 'x' from 1 to 1 is empty"),
        (row("abc", (0, 2, "x"), (1, 3, "y")), "a.jsonl:1: entities 'x' from 0 to 2 and 'y' from 1 to 3 overlap"),
        (row("abc", (1, 2, "y"), (0, 3, "x")), "a.jsonl:1: entities 'x' from 0 to 3 and 'y' from 1 to 2 overlap"),
        (row("abc", (0, 1, 5)), "a.jsonl:1: 'label' must be a text, not 5"),
        (row("abc", (0, 1, "")), "a.jsonl:1: no value for 'label'"),
        (row("abc", (0, 1.0, "x")), "a.jsonl:1: 'start' and 'end' of an entity must be whole numbers, not 0 and 1.0"),
        (row("abc", (False, True, "x")), "a.jsonl:1: 'start' and 'end' of an entity must be whole numbers"),
        ('{"text": "a", "entities": [{"start": 0, "end": 1}]}', "a.jsonl:1: an entity must have 'start', 'end' and"),
        ('{"text": "a", "entities": [[0, 1, "x"]]}', "a.jsonl:1: an entity must have 'start', 'end' and"),
        ('{"text": "ab", "label": {"x": {"b": [[0, 0]]}}}', r"a.jsonl:1: entity 'b' is not at \[0, 0\], where .* 'a'"),
        ('{"text": "ab", "label": {"x": {"b": [[1, 2]]}}}', "a.jsonl:1: entity 'x' from 1 to 3 is not inside"),
        ('{"text": "ab", "label": {"x": {"b": [[-1, 1]]}}}', "a.jsonl:1: entity 'x' from -1 to 2 is not inside"),
        ('{"text": "ab", "label": {"x": {"b": [1, 1]}}}', "a.jsonl:1: 'label' must be {type: {entity: "),
        ('{"text": "ab", "label": {"x": [[1, 1]]}}', "a.jsonl:1: 'label' must be {type: {entity: "),
    ],
)
def test_bad_json_lines(tmp_path, text, message):
    path = write(tmp_path, "a.jsonl", text)
    with pytest.raises(InputError, match=message):
        read_tags(path)
    path.write_text(row("good") + "\n" + text + "\n", encoding="utf8")
    records = read_tags(path, skip_bad_lines=True)
    assert (records.skipped, records.texts[0]) == (1, "good")


def test_labels_that_are_not_known(tmp_path):
    records = read_tags(write(tmp_path, "a.conll", "Ann B-PER\n\nspoke O\nRome B-LOC\n"))
    records.check_labels(["LOC", "PER"], "is not in the training file")
    with pytest.raises(InputError, match=r"a.conll:3: label 'LOC' is not in the training file"):
        records.check_labels(["PER"], "is not in the training file")


# === Published files ===


@pytest.mark.parametrize(
    ("file", "records", "entities", "scheme", "repaired"),
    [
        ("conll2003/eng.testa", 3250, {"PER": 1842, "LOC": 1837, "ORG": 1341, "MISC": 922}, "IOB1", 0),
        ("msra_ner/dev.txt", 4631, {"LOC": 2877, "ORG": 1331, "PER": 1984}, "BIO", 11),
        ("resume_ner/dev.char.bmes", 463, 1497, "BMES", 0),
        ("cluener/dev.json", 1343, 3072, None, 0),
    ],
)
def test_published_files(real_data, file, records, entities, scheme, repaired):
    found = read_tags(real_data(file))
    assert (len(found), found.scheme, found.repaired, found.skipped) == (records, scheme, repaired, 0)
    counts = Counter(span.label for spans in found.spans for span in spans)
    assert entities in (counts, counts.total())
