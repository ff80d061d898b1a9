"""Rows cut from a corpus, pairs, and an epoch's batches."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from kbert.data import prepared
from kbert.data.prepared import prepare_corpus
from kbert.data.sequences import Sequences, token_batches
from kbert.data.shards import CorpusPart, Encoded, ShardWriter
from kbert.errors import InputError
from kbert.tokenization.tokenizer import BertTokenizer

from .corpora import corpus

CLS, SEP, PAD = 2, 3, 0
SPECIAL_IDS = {"cls": CLS, "sep": SEP, "pad": PAD}


def made_up(folder, documents, shard_tokens=10**9):
    """A corpus of given lengths of sentences: ids count up from 10, the last piece of every third token is a suffix."""
    writer = ShardWriter(folder, "train", shard_tokens)
    token = 10
    for lengths in documents:
        starts = np.cumsum([0, *lengths[:-1]])
        ids = np.arange(token, token + sum(lengths), dtype=np.int32)
        word_starts = ids % 3 > 0
        word_starts[starts] = True
        writer.append(Encoded(ids, word_starts, starts, np.zeros(1, np.int64)))
        token += sum(lengths)
    return CorpusPart(folder, writer.close(), SPECIAL_IDS)


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    """300 documents of up to 40 sentences, none longer than 30 tokens, in several shards."""
    random = np.random.default_rng(3)
    documents = [random.integers(1, 31, random.integers(1, 41)).tolist() for _ in range(300)]
    made = made_up(tmp_path_factory.mktemp("part"), documents, shard_tokens=20_000)
    assert len(made.shards) > 3
    return made


def rows(sequences):
    """The ids of every row without padding."""
    batch = sequences.load(np.arange(len(sequences)))
    assert (batch["padding_mask"].sum(1) == sequences.lengths()).all()
    return [ids[mask > 0].tolist() for ids, mask in zip(batch["token_ids"], batch["padding_mask"], strict=True)]


def texts_of(row):
    """The ids between special tokens."""
    assert row[0] == CLS
    assert row[-1] == SEP
    inner, found = row[1:], []
    while inner:
        end = inner.index(SEP)
        found.append(inner[:end])
        inner = inner[end + 1 :]
    return found


def sentence_ends(part):
    """The last token of every sentence, and of every document."""
    ids = part.token_ids(np.arange(part.num_tokens))
    ends, lasts = [], []
    for shard, offset in zip(part.shards, part.offsets, strict=False):
        for starts, found in ((shard.sentence_starts(), ends), (shard.document_starts(), lasts)):
            found += ids[[*(starts[1:] - 1 + offset), offset + len(shard.token_ids) - 1]].tolist()
    return set(ends), set(lasts)


# === Rows ===


@pytest.mark.parametrize("max_length", [32, 57, 512])
@pytest.mark.parametrize("across_documents", [False, True])
def test_every_token_is_in_one_row_in_order(part, max_length, across_documents):
    sequences = Sequences.cut(part, max_length, across_documents=across_documents)
    found = [token for row in rows(sequences) for text in texts_of(row) for token in text]
    assert found == list(range(10, 10 + part.num_tokens))
    assert sequences.lengths().max() <= max_length
    assert sequences.tokens == sequences.lengths().sum()


@pytest.mark.parametrize("across_documents", [False, True])
def test_sentences_are_whole_and_rows_full(part, across_documents):
    ends, lasts = sentence_ends(part)
    sequences = Sequences.cut(part, 64, across_documents=across_documents)
    for row in rows(sequences):
        texts = texts_of(row)
        assert {text[-1] for text in texts} <= ends
        assert {text[-1] for text in texts[:-1]} <= lasts
        assert not lasts.intersection(token for text in texts for token in text[:-1])
        if not across_documents:
            assert len(texts) == 1
        # Another sentence would not fit, unless the document or the shard ends.
        if texts[-1][-1] not in lasts:
            assert len(row) + 30 > 64
    if across_documents:
        assert np.sum(sequences.lengths() + 31 <= 64) <= len(part.shards)
        assert any(len(texts_of(row)) > 1 for row in rows(sequences))


def test_greedy_by_hand(tmp_path):
    part = made_up(tmp_path, [[3, 4, 2], [5], [1, 1]])
    assert rows(Sequences.cut(part, 9)) == [
        [CLS, *range(10, 17), SEP],
        [CLS, 17, 18, SEP],
        [CLS, *range(19, 24), SEP],
        [CLS, 24, 25, SEP],
    ]


def test_across_documents_by_hand(tmp_path):
    documents = [[3, 4, 2], [3], [1, 1]]
    shards = [np.concatenate([[0], np.cumsum(lengths)]) for lengths in documents]
    starts = np.concatenate([shards[0][:-1], shards[1][:-1] + 9, shards[2][:-1] + 12])
    writer = ShardWriter(tmp_path, "train")
    writer.append(Encoded(np.arange(10, 24, dtype=np.int32), np.ones(14, bool), starts, np.array([0, 9, 12])))
    part = CorpusPart(tmp_path, writer.close(), SPECIAL_IDS)
    sequences = Sequences.cut(part, 9, across_documents=True)
    assert rows(sequences) == [
        [CLS, *range(10, 17), SEP],
        [CLS, 17, 18, SEP, 19, 20, 21, SEP],
        [CLS, 22, 23, SEP],
    ]
    assert rows(Sequences.cut(part, 10, across_documents=True))[1] == [CLS, 17, 18, SEP, 19, 20, 21, SEP, 22, SEP]


@pytest.mark.parametrize("max_length", [3, 4, 8, 12, 33, 128])
@pytest.mark.parametrize("across_documents", [False, True])
def test_long_sentences_are_cut_between_words(tmp_path, max_length, across_documents):
    part = made_up(tmp_path, [[1000], [5, 300, 7, 7], [1], [77] * 9], shard_tokens=600)
    sequences = Sequences.cut(part, max_length, across_documents=across_documents)
    texts = [text for row in rows(sequences) for text in texts_of(row)]
    assert [token for text in texts for token in text] == list(range(10, 10 + part.num_tokens))
    assert sequences.lengths().max() <= max_length
    if max_length == 128:
        starts = [text[0] for text in texts]
        assert part.word_starts(np.array(starts) - 10).all()
        assert sequences.lengths()[:8].min() > 0.9 * max_length


def test_rows_of_long_documents_are_nearly_full(part):
    sequences = Sequences.cut(part, 512, across_documents=True)
    assert sequences.lengths().mean() > 0.95 * 512


def test_load_by_hand(tmp_path):
    part = made_up(tmp_path, [[3, 4], [2]])
    batch = Sequences.cut(part, 9).load(np.array([1, 0]))
    assert {name: values.dtype.name for name, values in batch.items()} == {
        "token_ids": "int32",
        "segment_ids": "int32",
        "padding_mask": "int32",
        "word_starts": "bool",
    }
    assert batch["token_ids"].tolist() == [[CLS, 17, 18, SEP, 0, 0, 0, 0, 0], [CLS, *range(10, 17), SEP]]
    assert batch["padding_mask"].tolist() == [[1] * 4 + [0] * 5, [1] * 9]
    assert not batch["segment_ids"].any()
    # 12 and 15 are suffixes, so would be 18.
    assert batch["word_starts"].astype(int).tolist() == [[0, 1, 0] + [0] * 6, [0, 1, 1, 0, 1, 1, 0, 1, 0]]
    empty = Sequences.cut(part, 9).load(np.zeros(0, np.int64))
    assert {values.shape for values in empty.values()} == {(0, 1)}


def test_rows_of_a_prepared_corpus(tmp_path, tiny_vocabulary, monkeypatch):
    """Text to rows and back: what the tokenizer packs itself."""
    monkeypatch.setattr(prepared, "_BLOCK", 500)
    tokenizer = BertTokenizer(tiny_vocabulary)
    (tmp_path / "a.txt").write_text("\n".join(" ".join(text.split()) for text in corpus(80, longest=3)))
    made = prepare_corpus([tmp_path / "a.txt"], tokenizer, tmp_path / "c", layout="lines", processes=1, held_out=0.0)
    sequences = Sequences.cut(made.train, 512)
    expected = tokenizer((tmp_path / "a.txt").read_text().split("\n"))
    batch = sequences.load(np.arange(len(sequences)))
    for name, values in expected.items():
        np.testing.assert_array_equal(batch[name], values)


# === Pairs ===


def pairs_of(sequences):
    batch = sequences.load(np.arange(len(sequences)))
    for row, label, segments in zip(rows(sequences), batch["pair_label"], batch["segment_ids"], strict=True):
        first, second = texts_of(row)
        assert segments[: len(row)].tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
        assert not segments[len(row) :].any()
        yield first, second, int(label)


def document_of(part):
    """The number of the document of each id."""
    sizes = []
    for shard in part.shards:
        sizes += np.diff([*shard.document_starts(), len(shard.token_ids)]).tolist()
    return dict(enumerate(np.repeat(np.arange(len(sizes)), sizes).tolist(), 10))


def test_next_sentences(part):
    sequences = Sequences.cut(part, 128, pairs="nsp", seed=4)
    documents, (ends, lasts) = document_of(part), sentence_ends(part)
    labels, firsts = Counter(), Counter()
    for first, second, label in pairs_of(sequences):
        assert first == list(range(first[0], first[-1] + 1))
        assert second == list(range(second[0], second[-1] + 1))
        assert first[-1] in ends
        follows = second[0] == first[-1] + 1
        assert label == int(documents[first[0]] != documents[second[0]])
        assert label or follows
        forced = first[-1] in lasts
        assert label or not forced
        labels[label, forced] += 1
        firsts.update([*first, *([] if label else second)])
    assert set(firsts) == set(documents)
    assert max(firsts.values()) == 1
    free = labels[0, False] + labels[1, False]
    assert free > 500
    assert labels[1, False] / free == pytest.approx(0.5, abs=0.07)
    assert sequences.lengths().max() <= 128
    assert sequences.lengths().mean() > 90


def test_sentence_order(part):
    sequences = Sequences.cut(part, 128, pairs="sop", seed=4)
    ends, _ = sentence_ends(part)
    labels, seen = Counter(), Counter()
    for first, second, label in pairs_of(sequences):
        early, late = (second, first) if label else (first, second)
        assert early + late == list(range(early[0], late[-1] + 1))
        assert late[-1] in ends
        labels[label] += 1
        seen.update(first + second)
    assert max(seen.values()) == 1
    assert len(seen) >= part.num_tokens - part.num_documents
    assert labels[1] / len(sequences) == pytest.approx(0.5, abs=0.07)


def test_a_tenth_of_the_pairs_is_short(part):
    lengths = Sequences.cut(part, 128, pairs="sop").lengths()
    full = np.mean(lengths > 95)
    assert 0.6 < full < 0.95


@pytest.mark.parametrize("pairs", ["nsp", "sop"])
def test_pairs_follow_from_seed_and_epoch(part, pairs):
    def cut(seed, epoch):
        return rows(Sequences.cut(part, 64, pairs=pairs, seed=seed, epoch=epoch))

    assert cut(1, 2) == cut(1, 2)
    assert cut(1, 2) != cut(1, 3)
    assert cut(1, 2) != cut(2, 2)


@pytest.mark.parametrize("pairs", ["nsp", "sop"])
@pytest.mark.parametrize("max_length", [5, 6, 9, 40])
def test_pairs_of_any_corpus(tmp_path, pairs, max_length):
    part = made_up(tmp_path, [[1000], [1], [2], [5, 300, 7, 7]], shard_tokens=1100)
    sequences = Sequences.cut(part, max_length, pairs=pairs)
    assert sequences.lengths().max() <= max_length
    found = set()
    for first, second, _ in pairs_of(sequences):
        assert first
        assert second
        found.update(first + second)
    lost = set(range(10, 10 + part.num_tokens)) - found
    assert lost <= (sentence_ends(part)[1] if pairs == "sop" else set())


# === Batches ===


@pytest.mark.parametrize("max_rows", [None, 16])
@pytest.mark.parametrize("tokens", [300, 4096])
def test_an_epoch_holds_every_row_once(tokens, max_rows):
    lengths = np.random.default_rng(0).integers(3, 129, 20_000)
    batches = token_batches(lengths, tokens, seed=5, epoch=1, max_rows=max_rows)
    assert sorted(np.concatenate(batches)) == list(range(20_000))
    sums = np.array([lengths[batch].sum() for batch in batches])
    assert (sums <= tokens + 128).all()
    assert max_rows is None or max(map(len, batches)) <= max_rows
    if max_rows is None:
        assert np.sum(sums < tokens - 128) <= 1
    again = token_batches(lengths, tokens, seed=5, epoch=1, max_rows=max_rows)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))
    other = token_batches(lengths, tokens, seed=5, epoch=2, max_rows=max_rows)
    assert np.concatenate(other).tolist() != np.concatenate(batches).tolist()


def test_the_order_is_the_same_everywhere():
    batches = token_batches(np.array([3, 9, 4, 8, 5, 7, 6]), 14, seed=1, epoch=2)
    assert [batch.tolist() for batch in batches] == [[6, 5], [0, 2, 4], [3, 1]]


@pytest.mark.parametrize("kind", ["uniform", "mostly full"])
def test_little_padding_is_left(kind):
    random = np.random.default_rng(1)
    lengths = random.integers(5, 513, 30_000)
    if kind == "mostly full":
        lengths = np.where(random.random(30_000) < 0.8, random.integers(480, 513, 30_000), lengths)
    batches = token_batches(lengths, 8192, seed=0, epoch=0)
    slots = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert slots / lengths.sum() < 1.03


def test_batches_of_few_or_long_rows():
    assert token_batches(np.zeros(0, np.int64), 100, 0, 0) == []
    batches = token_batches(np.array([300, 5, 300, 5]), 100, 0, 0)
    assert sorted(np.concatenate(batches)) == [0, 1, 2, 3]
    assert all(np.sum(batch % 2 == 0) <= 1 for batch in batches)
    with pytest.raises(InputError, match="must be at least 1. Received: 0 and None"):
        token_batches(np.array([3]), 0, 0, 0)


# === What is refused ===


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"max_length": 2}, "`max_length` must be at least 3. Received: 2"),
        ({"max_length": 4, "pairs": "sop"}, "`max_length` must be at least 5. Received: 4"),
        ({"pairs": "abc"}, "`pairs` must be None or one of nsp, sop. Received: 'abc'"),
        ({"pairs": "nsp", "across_documents": True}, "leave out `across_documents` or `pairs`"),
    ],
)
def test_bad_arguments(part, arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        Sequences.cut(part, **{"max_length": 64, **arguments})


def test_a_part_without_documents(tmp_path):
    empty = CorpusPart(tmp_path, [], SPECIAL_IDS)
    for pairs in (None, "nsp"):
        sequences = Sequences.cut(empty, 16, pairs=pairs)
        assert (len(sequences), sequences.tokens) == (0, 0)
