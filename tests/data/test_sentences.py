"""Sentences of English and Chinese texts."""

from __future__ import annotations

import random

import pytest

from kbert.data import sentences
from kbert.data.sentences import split_documents, split_sentences


@pytest.mark.parametrize(
    "expected",
    [
        ["It rained.", "We stayed!", "Did you?", "2 of us did."],
        ['He said "No."', "Then he left.", "(She did not.)", "“Well,” I said."],
        ["Dr. J. Smith of Mt. Airy met Mrs. Jones.", "They talked."],
        ["The U.S. Army bought 3.5 million at 2.50 each.", "It paid."],
        ["See No. 5 and fig. 3 of vol. 2.", "He said no.", "On Jan. 3 it snowed."],
        ["e.g. this one and i.e. That one.", "End."],
        ["So did I.", "He was in World War I.", "It ended."],
        ["1. The first rule.", "2. The second rule."],
        ["Wait... what?", "Yes!!", "Really?!", "No."],
        ["The end is near.lower case follows. and goes on.", "Visit example.com today."],
        ["Él vino.", "Élle aussi.", "Он пришёл.", "Она тоже."],
    ],
    ids=lambda expected: expected[0][:12],
)
def test_english(expected):
    assert split_sentences(" ".join(expected)) == expected
    assert [" ".join(s.split()) for s in split_sentences("\n".join(expected))] == expected


@pytest.mark.parametrize(
    "expected",
    [
        ["今天下雨。", "我们没出门！", "你呢？", "我也是；", "好吧……", "再见。"],
        ["他说：“好。”", "然后走了。", "（她没走。）", "「真的吗？！」", "真的。"],
        ["好看!", "我爱电影?", "得3.5分。", "第1.2节讲的是A.B公司。"],
        ["没有标点的一段话"],
    ],
    ids=lambda expected: expected[0],
)
def test_chinese(expected):
    assert split_sentences("".join(expected)) == expected


def test_line_ends_and_blank_lines():
    text = "A sentence that is\nbroken into lines. And\nanother.\n\nA heading\n \nText below it.\r\n\r\nLast"
    expected = ["A sentence that is broken into lines.", "And another.", "A heading", "Text below it.", "Last"]
    assert [" ".join(s.split()) for s in split_sentences(text)] == expected


@pytest.mark.parametrize("text", ["", " \n\n ", "."])
def test_little_text(text):
    assert split_sentences(text) == list(filter(None, [text.strip()]))


def test_nothing_is_lost():
    text = 'Mr. A. B. said: "No." 好。” \'Tis 3.5!? …Well… Then\n\n。。 x.Y z. ... End... And i. ii. 1) One. 2. Two'
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


def test_long_sentences_are_cut_between_words(monkeypatch):
    monkeypatch.setattr(sentences, "_LONGEST", 10)
    assert split_sentences("one two three four five. Six") == ["one two", "three", "four five.", "Six"]
    assert split_sentences("x" * 25) == ["x" * 10, "x" * 10, "x" * 5]
    assert split_sentences("一二三四五，六七八九十一二") == ["一二三四五，", "六七八九十一二"]


# === Many texts at once ===

_PARTS = (
    *".....!?。！？；…\n\n   \t\r\"'”’」)(“«A1bб的Éé\u0301\0\x1c",
    *("Mr", "mrs", "No", "pp", "I", "U.S", "e.g", "12", "Esq", "gen", "St", "word", "Wörter", "Then", ". The", '." I'),
    *("\U0001f600", "\u212a", "\u0130", ".\n\n", "? ", "!” ", "…” ", "\ud800"),
)


def by_the_rules(text):
    """The sentences of a text, a match of the regular expression at a time."""
    found, begin = [], 0
    for match in sentences._END.finditer(text):
        stop, end = match.span()
        if text[stop] != "." or not sentences._goes_on(text, begin, stop, end):
            found.append(text[begin:end].strip())
            begin = end
    return list(filter(None, [*found, text[begin:].strip()]))


def test_arrays_decide_as_the_rules_do():
    choice = random.Random(0)
    texts = ["".join(choice.choices(_PARTS, k=choice.randrange(30))) for _ in range(20_000)]
    expected = [by_the_rules(text) for text in texts]
    found, numbers = split_documents(texts)
    assert found == [sentence for part in expected for sentence in part]
    assert numbers.tolist() == [i for i, part in enumerate(expected) for _ in part]
    assert [split_sentences(text) for text in texts[:1000]] == expected[:1000]


def test_no_texts():
    found, numbers = split_documents([])
    assert found == []
    assert numbers.tolist() == []


def test_long_sentences_of_several_texts(monkeypatch):
    monkeypatch.setattr(sentences, "_LONGEST", 10)
    found, numbers = split_documents(["", "one two three. Four", " ", "five", "six seven eight"])
    assert found == ["one two", "three.", "Four", "five", "six seven", "eight"]
    assert numbers.tolist() == [1, 1, 1, 3, 4, 4]
