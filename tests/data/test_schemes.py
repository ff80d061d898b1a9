"""Tag schemes: rows of tags and entities, both ways, and what the classes of a tagger allow."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kbert.data.schemes import LETTERS, Span, label_names, recognise, spans_of_tags, split_tag, tags_of_spans
from kbert.data.tag_scheme import TagScheme
from kbert.errors import InputError

# "New York" and "Rome" of one type touch, "Ann" follows; a word outside; "Bob Lee Roy".
SPANS = [Span(0, 2, "LOC"), Span(2, 3, "LOC"), Span(3, 4, "PER"), Span(5, 8, "PER")]
TAGS = {
    "BIO": "B-LOC I-LOC B-LOC B-PER O B-PER I-PER I-PER",
    "IOB1": "I-LOC I-LOC B-LOC I-PER O I-PER I-PER I-PER",
    "BIOES": "B-LOC E-LOC S-LOC S-PER O B-PER I-PER E-PER",
    "BMES": "B-LOC E-LOC S-LOC S-PER O B-PER M-PER E-PER",
    "BILOU": "B-LOC L-LOC U-LOC U-PER O B-PER I-PER L-PER",
}


def random_spans(random, length, types="ab", scheme="BIO"):
    spans, place = [], 0
    while place < length:
        end = min(length, place + 1 + (0 if scheme == "plain" else random.integers(4)))
        if random.random() < 0.6:
            spans.append(Span(place, int(end), str(random.choice(list(types)))))
        place = int(end)
    return spans


# === Rows of tags ===


@pytest.mark.parametrize("scheme", TAGS)
def test_tags_and_spans(scheme):
    tags = TAGS[scheme].split()
    assert spans_of_tags(tags) == SPANS
    assert tags_of_spans(SPANS, 8, scheme) == tags


def test_plain_tags_are_an_entity_for_each_word():
    tags = ["DT", "NN", "NN", "O", "-LRB-"]
    spans = [Span(0, 1, "DT"), Span(1, 2, "NN"), Span(2, 3, "NN"), Span(4, 5, "-LRB-")]
    assert spans_of_tags(tags) == spans
    assert tags_of_spans(spans, 5, "plain") == tags


@pytest.mark.parametrize("scheme", LETTERS)
def test_random_spans_come_back_and_their_scheme_is_recognised(scheme):
    random = np.random.default_rng(7)
    rows = [random_spans(random, length, scheme=scheme) for length in range(1, 60)]
    tags = [tags_of_spans(spans, length, scheme) for length, spans in enumerate(rows, 1)]
    found = recognise(tags)
    assert (found.scheme, found.spans, sum(found.irregular), found.misfits) == (scheme, rows, 0, {})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O I-a I-a O", [(1, 3, "a")]),
        ("B-a I-b I-b", [(0, 1, "a"), (1, 3, "b")]),
        ("E-a E-a", [(0, 1, "a"), (1, 2, "a")]),
        ("B-a O I-a", [(0, 1, "a"), (2, 3, "a")]),
        ("B-a B-a E-a", [(0, 1, "a"), (1, 3, "a")]),
        ("S-a M-a E-a I-a", [(0, 1, "a"), (1, 3, "a"), (3, 4, "a")]),
        ("U-a L-a L-b", [(0, 1, "a"), (1, 2, "a"), (2, 3, "b")]),
        ("", []),
    ],
)
def test_broken_tags_are_read_as_by_conlleval(tags, expected):
    assert spans_of_tags(tags.split()) == [Span(*span) for span in expected]


@pytest.mark.parity
def test_against_seqeval():
    """seqeval goes on with an entity after S, which conlleval does not know; so S stands before O and B only."""
    get_entities = pytest.importorskip("seqeval.metrics.sequence_labeling", reason="needs seqeval").get_entities
    for length in (1, 2, 3, 4):
        for tags in itertools.product(["O", "B-a", "I-a", "B-b", "I-b", "E-a"], repeat=length):
            expected = [Span(start, end + 1, label) for label, start, end in get_entities(list(tags))]
            assert spans_of_tags(tags) == expected, tags


def test_tags_of_other_spellings():
    assert [split_tag(tag) for tag in ("O", "B-PER", "I_PER", "I-A-B", "NN", "-LRB-", "N_NN", "B", "B-")] == [
        ("O", ""),
        ("B", "PER"),
        ("I", "PER"),
        ("I", "A-B"),
        ("", "NN"),
        ("", "-LRB-"),
        ("", "N_NN"),
        ("", "B"),
        ("", "B-"),
    ]


# === Recognising ===


@pytest.mark.parametrize(
    ("rows", "scheme", "irregular"),
    [
        (["O O"], "BIO", [0]),
        (["B-a O", "B-b"], "BIO", [0, 0]),
        (["O I-a", "I-a B-a"], "IOB1", [0, 0]),
        (["B-a I-a O", "O I-a", "B-b"], "BIO", [0, 1, 0]),
        (["I-a O I-a", "I-b", "B-b"], "IOB1", [0, 0, 1]),
        (["B-a I-a O", "S-b B-b I-b"], "BIOES", [1, 1]),
        (["B-a M-a O S-b"], "BMES", [1]),
        (["DT NN O"], "plain", [0]),
    ],
)
def test_recognise(rows, scheme, irregular):
    found = recognise([row.split() for row in rows])
    assert (found.scheme, found.irregular, found.misfits) == (scheme, irregular, {})


def test_tags_that_fit_no_scheme():
    rows = [["O", "B-a"], ["O", "X-a"], ["B-a", "I-a", "NN"], ["I-a", "M-a"], ["E-a"], ["M-a", "O"]]
    found = recognise(rows)
    assert found.misfits == {
        1: (1, "tag 'X-a' is of no known scheme (BIO, IOB1, BIOES, BMES, BILOU, plain)"),
        2: (2, "tag 'NN' does not go with the tags before it, which are BIO or IOB1 or BIOES or BILOU"),
        3: (1, "tag 'M-a' does not go with the tags before it, which are BIO or IOB1 or BIOES or BILOU"),
        5: (0, "tag 'M-a' does not go with the tags before it, which are BIOES"),
    }
    assert (found.scheme, found.spans[1], found.spans[3]) == ("BIOES", [], [])


# === Classes of a tagger ===


def test_label_names():
    assert label_names(["b", "a"], "BIO") == ("O", "B-a", "I-a", "B-b", "I-b")
    assert label_names(["a"], "BIOES") == ("O", "B-a", "I-a", "E-a", "S-a")
    assert label_names(["a"], "BMES") == ("O", "B-a", "M-a", "E-a", "S-a")
    assert label_names(["a"], "BILOU", outside=False) == ("B-a", "I-a", "L-a", "U-a")
    assert label_names(["a"], "IOB1") == ("O", "B-a", "I-a")
    assert label_names(["VB", "NN"], "plain", outside=False) == ("NN", "VB")


@pytest.mark.parametrize("scheme", LETTERS)
def test_allowed_paths_are_the_rows_of_tags_that_the_scheme_writes(scheme):
    """Every row of up to four tags: it is allowed just where its entities have no other tags."""
    labels = label_names("ab", scheme)[::-1]
    classes = TagScheme.from_labels(labels, scheme)
    for length in (1, 2, 3, 4):
        for path in itertools.product(range(len(labels)), repeat=length):
            tags = [labels[i] for i in path]
            allowed = classes.allowed_start[path[0]] & classes.allowed_end[path[-1]]
            allowed &= all(classes.allowed[i, j] for i, j in itertools.pairwise(path))
            regular = tags_of_spans(spans_of_tags(tags), length, scheme) == tags
            assert allowed == (regular or scheme == "IOB1"), tags


@pytest.mark.parametrize("scheme", LETTERS)
def test_arrays_of_classes_agree_with_the_tags(scheme):
    random = np.random.default_rng(3)
    labels = label_names("ab", scheme)
    classes = TagScheme.from_labels(random.permutation(labels), scheme)
    assert classes.types == ("a", "b")
    assert classes.labels[classes.outside] == "O"
    path = random.integers(len(labels), size=400)
    row_starts = random.random(400) < 0.2
    row_starts[0] = True
    starts = classes.entity_starts(path, row_starts)
    for row in np.split(np.arange(400), np.flatnonzero(row_starts)[1:]):
        spans = spans_of_tags([classes.labels[i] for i in path[row]])
        assert [span.start for span in spans] == list(np.flatnonzero(starts[row]))
        assert [span.label for span in spans] == [classes.types[classes.type_index[path[row[s.start]]]] for s in spans]
    letters = [split_tag(label)[0] for label in classes.labels]
    np.testing.assert_array_equal(classes.begins, [letter in ("B", "S", "U", "") for letter in letters])
    np.testing.assert_array_equal(classes.continues, [letter in ("I", "M", "E", "L") for letter in letters])


@pytest.mark.parametrize(
    ("labels", "scheme", "types", "outside"),
    [
        ("O B-MISC I-MISC B-PER I-PER", "BIO", ("MISC", "PER"), 0),
        ("I-PER I-LOC B-LOC O", "IOB1", ("LOC", "PER"), 3),
        ("I-b S-b B-b E-b", "BIOES", ("b",), -1),
        ("[PAD] O X B-a I-a [CLS] [SEP]", "BIO", ("a",), 1),
        ("ADJ X NOUN", "plain", ("ADJ", "NOUN", "X"), -1),
        ("B_PER I_PER O", "BIO", ("PER",), 2),
        ("LABEL_0 LABEL_1", "plain", ("LABEL_0", "LABEL_1"), -1),
        ("O", "BIO", (), 0),
    ],
)
def test_labels_of_other_checkpoints(labels, scheme, types, outside):
    classes = TagScheme.from_labels(labels.split())
    assert (classes.scheme, classes.types, classes.outside) == (scheme, types, outside)
    assert classes.allowed.any(axis=1).all()


def test_a_tag_that_the_labels_lack_is_not_waited_for():
    classes = TagScheme.from_labels(["O", "B-a", "I-a", "S-b", "E-b"], "BIOES")
    assert classes.allowed_end.all()  # there is no E-a
    np.testing.assert_array_equal(classes.allowed_start, [True, True, False, True, True])
    assert TagScheme.from_labels(["I-a", "B-b", "I-b"]).allowed.all()


def test_classes_by_place_in_the_entity():
    def names(labels, scheme=None):
        classes = TagScheme.from_labels(labels, scheme)
        return [[classes.labels[i] for i in row] for row in classes.label_ids[-1]]

    assert names(label_names("ab", "BIOES")) == [["S-b", "B-b", "I-b", "E-b"]] * 2
    assert names(label_names("ab", "BMES")) == [["S-b", "B-b", "M-b", "E-b"]] * 2
    assert names(label_names("ab", "BIO")) == [["B-b", "B-b", "I-b", "I-b"]] * 2
    assert names(label_names("ab", "IOB1"), "IOB1") == [["I-b"] * 4, ["B-b", "B-b", "I-b", "I-b"]]
    assert names(["NN", "VB"]) == [["VB"] * 4] * 2
    assert names(["O", "B-a"]) == [["B-a"] * 4] * 2


@pytest.mark.parametrize(
    ("labels", "scheme", "message"),
    [
        ([], None, "one or more, all different"),
        (["O", "B-a", "O"], None, "one or more, all different"),
        (["O", "Q-a"], None, "tag 'Q-a' is of no known scheme"),
        (["O", "I-a", "M-a"], None, "tag 'M-a' does not go with the tags before it"),
        (["O", "B-a"], "IOE", "`scheme` must be one of BIO, .* Received: 'IOE'"),
    ],
)
def test_bad_labels(labels, scheme, message):
    with pytest.raises(InputError, match=message):
        TagScheme.from_labels(labels, scheme)
