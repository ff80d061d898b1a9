"""Entities in characters and classes of units, both ways."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kbert.data.alignment import IGNORED, Units, align, units
from kbert.data.schemes import LETTERS, Span, label_names, spans_of_tags
from kbert.data.tag_scheme import TagScheme
from kbert.errors import InputError

BIO = TagScheme.from_labels(label_names("ab", "BIO"))


def as_units(*rows):
    """Units of one piece each, given as (start, end) pairs."""
    flat = [edges for row in rows for edges in row]
    starts, ends = np.array(flat, int).reshape(-1, 2).T
    return Units(starts, ends, np.cumsum([0, *map(len, rows)]), np.arange(len(flat)), len(flat))


def names(alignment, scheme=BIO):
    return ["-" if i == IGNORED else scheme.labels[i] for i in alignment.classes]


def given_back(classes, units, scheme):
    """What the classes say in characters: from the start of an entity's first unit to the end of its last."""
    rows = []
    for begin, end in pairwise(units.row_splits):
        tags = ["O" if i == IGNORED else scheme.labels[i] for i in classes[begin:end]]
        starts, ends = units.starts[begin:end], units.ends[begin:end]
        rows.append([Span(starts[s.start], ends[s.end - 1], s.label) for s in spans_of_tags(tags)])
    return rows


# === Units ===


def test_units_of_pieces():
    # "ab##c d" and an empty row, then a row that begins within a word, as a window can: "##e f##g##h".
    starts = np.array([0, 1, 2, 0, 5, 7, 9])
    ends = np.array([1, 2, 4, 3, 7, 9, 10])
    found = units(starts, ends, np.array([0, 3, 3, 7]), np.array([0, 1, 0, 1, 0, 1, 1], bool))
    assert found.starts.tolist() == [0, 2, 0, 5]
    assert found.ends.tolist() == [2, 4, 3, 10]
    assert found.row_splits.tolist() == [0, 2, 2, 4]
    assert found.piece_classes(np.array([5, 6, 7, 8])).tolist() == [5, IGNORED, 6, 7, 8, IGNORED, IGNORED]


def test_no_pieces():
    empty = np.zeros(0, int)
    found = units(empty, empty, np.array([0, 0]), empty)
    assert found.row_splits.tolist() == [0, 0]
    aligned = align([[Span(0, 1, "a")]], found, BIO)
    assert (aligned.spans, aligned.lost, aligned.inexact, aligned.classes.size) == (1, 1, 0, 0)
    assert aligned.lost_examples == ((0, Span(0, 1, "a")),)


# === Classes ===


def test_entities_on_the_edges_of_units():
    row = as_units([(0, 2), (2, 3), (4, 6), (6, 7)], [], [(0, 1)])
    aligned = align([[Span(0, 3, "a"), Span(4, 6, "a"), Span(6, 7, "b")], [], [Span(0, 1, "b")]], row, BIO)
    assert names(aligned) == ["B-a", "I-a", "B-a", "B-b", "B-b"]
    assert (aligned.spans, aligned.lost, aligned.inexact) == (4, 0, 0)


def test_entities_that_end_within_a_unit():
    row = as_units([(0, 4), (4, 8), (9, 10)])
    aligned = align([[Span(1, 8, "a"), Span(9, 10, "b")]], row, BIO)
    assert names(aligned) == ["B-a", "I-a", "B-b"]
    assert (aligned.lost, aligned.inexact, aligned.inexact_examples) == (0, 1, ((0, Span(1, 8, "a")),))


def test_entities_in_one_unit():
    """The first has the unit, the second is lost and the third keeps the unit behind; order does not matter."""
    spans = [Span(4, 8, "a"), Span(2, 4, "b"), Span(0, 2, "a")]
    aligned = align([spans], as_units([(0, 5), (5, 8)]), BIO)
    assert names(aligned) == ["B-a", "B-a"]
    assert aligned.lost_examples == ((0, Span(2, 4, "b")),)
    assert aligned.inexact_examples == ((0, Span(0, 2, "a")), (0, Span(4, 8, "a")))


def test_entities_of_characters_that_give_no_unit_are_lost():
    aligned = align([[Span(0, 1, "a")], [Span(1, 2, "b")]], as_units([(1, 2)], [(0, 1), (2, 3)]), BIO)
    assert names(aligned) == ["O", "O", "O"]
    assert (aligned.lost, aligned.lost_examples) == (2, ((0, Span(0, 1, "a")), (1, Span(1, 2, "b"))))


def test_only_the_first_examples_are_kept():
    aligned = align([[Span(0, 1, "a")]] * 9, as_units(*[[]] * 9), BIO)
    assert (aligned.lost, len(aligned.lost_examples)) == (9, 3)


@pytest.mark.parametrize(
    ("labels", "expected", "inexact"),
    [
        ("O B-a I-a E-a S-a B-b I-b E-b S-b", ["B-a", "I-a", "E-a", "S-a", "S-b", "O"], 0),
        ("O I-a B-a I-b", ["I-a", "I-a", "I-a", "B-a", "I-b", "O"], 0),
        ("I-a I-b", ["I-a", "I-a", "I-a", "I-a", "I-b", "-"], 2),  # two that touch are read as one
        ("a b", ["a", "a", "a", "a", "b", "-"], 1),  # an entity of three units is read as three
    ],
)
def test_other_classes(labels, expected, inexact):
    scheme = TagScheme.from_labels(labels.split())
    row = as_units([(i, i + 1) for i in range(6)])
    aligned = align([[Span(0, 3, "a"), Span(3, 4, "a"), Span(4, 5, "b")]], row, scheme)
    assert (names(aligned, scheme), aligned.inexact) == (expected, inexact)


def test_a_type_without_a_class():
    with pytest.raises(InputError, match=r"row 1 has an entity 'c'; the tagger knows \('a', 'b'\)"):
        align([[], [Span(0, 1, "c")]], as_units([], [(0, 1)]), BIO)


@pytest.mark.parametrize("scheme", [name for name in LETTERS if name != "plain"])
def test_against_brute_force(scheme):
    random = np.random.default_rng(11)
    classes = TagScheme.from_labels(label_names("ab", scheme), scheme)
    spans, rows = [], []
    for length in random.integers(0, 40, 300):
        edges = np.flatnonzero(random.random(length + 1) < 0.6)
        rows.append([pair for pair in pairwise(edges) if random.random() < 0.8])
        edges = np.flatnonzero(random.random(length + 1) < 0.4)
        found = [Span(int(i), int(j), str(random.choice(["a", "b"]))) for i, j in pairwise(edges)]
        spans.append([span for span in found if random.random() < 0.7])
    aligned = align(spans, as_units(*rows), classes)
    assert aligned.spans == sum(map(len, spans))
    decoded = given_back(aligned.classes, as_units(*rows), classes)
    lost = inexact = 0
    for row, row_spans, found in zip(rows, spans, decoded, strict=True):
        owners = [next((s for s in row_spans if s.start < end and start < s.end), None) for start, end in row]
        expected = [
            Span(
                min(start for (start, _), owner in zip(row, owners, strict=True) if owner is span),
                max(end for (_, end), owner in zip(row, owners, strict=True) if owner is span),
                span.label,
            )
            for span in row_spans
            if any(owner is span for owner in owners)
        ]
        assert found == expected
        lost += sum(all(owner is not span for owner in owners) for span in row_spans)
        inexact += sum(any(owner is span for owner in owners) and span not in expected for span in row_spans)
    assert (aligned.lost, aligned.inexact) == (lost, inexact)
    assert min(lost, inexact) > 50


# === With the tokenizer ===

TEXTS = [
    "李明在北京大学读书。",
    "IBM在Beijing的１２３号 ｆｕｌｌ",
    "Zoë Müller's cafe\u0301 e\u0323\u0301!",
    "a 👩‍👩‍👧 flag 🇩🇪 and 😀😀",
    "zero\u200bwidth \ufeffmarks\u00ad here",
    "नमस्ते दुनिया",
    "가나 \u1100\u1161 ﬁne straße",
    "New-York's U.S. 3.5% ... «x»",
    "x" * 120 + " y",
    " \t 空 格　ok ",
]


@pytest.fixture(scope="module")
def tokenized():
    from kbert.tokenization.tokenizer import BertTokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghilmnorstuwxyz123李明在北京大读。'.,-😀"]
    tokenizer = BertTokenizer(vocabulary + ["##" + letter for letter in "abcdefghijklmnorstuwxyz23"])
    ids, starts, ends = tokenizer.tokenize_with_offsets(TEXTS)
    continues = np.array([token.startswith("##") for token in vocabulary + ["##"] * 25])[ids.flat_values.numpy()]
    return units(starts.flat_values.numpy(), ends.flat_values.numpy(), ids.row_splits.numpy(), continues)


@pytest.mark.parametrize("scheme", [name for name in LETTERS if name != "plain"])
def test_entities_on_the_edges_of_units_of_any_script_come_back(tokenized, scheme):
    """Entities of random runs of the tokenizer's units."""
    assert (np.diff(tokenized.row_splits) > 1).all()
    random = np.random.default_rng(5)
    classes = TagScheme.from_labels(label_names("ab", scheme), scheme)
    for _ in range(20):
        spans = []
        for begin, end in pairwise(tokenized.row_splits):
            edges = np.flatnonzero(random.random(end - begin + 1) < 0.6) + begin
            runs = [run for run in pairwise(edges) if random.random() < 0.7]
            edges = [(int(tokenized.starts[i]), int(tokenized.ends[j - 1])) for i, j in runs]
            spans.append([Span(start, end, str(random.choice(["a", "b"]))) for start, end in edges])
        aligned = align(spans, tokenized, classes)
        assert (aligned.spans, aligned.lost, aligned.inexact) == (sum(map(len, spans)), 0, 0)
        assert given_back(aligned.classes, tokenized, classes) == spans


def test_units_are_words(tokenized):
    def words(row):
        begin, end = tokenized.row_splits[row : row + 2]
        return [TEXTS[row][tokenized.starts[i] : tokenized.ends[i]] for i in range(begin, end)]

    assert words(0) == list(TEXTS[0])
    assert words(1) == ["IBM", "在", "Beijing", "的", "１２３号"[:3], "号", "ｆｕｌｌ"]
    assert words(4) == ["zero\u200bwidth", "marks\u00ad"[:5], "here"]
    assert words(8) == ["x" * 120, "y"]
