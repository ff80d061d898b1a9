"""What is hidden: as much as the options ask for, as whole units, and the same whatever is computed beside it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from kbert.config import MASK_UNITS, TokenizerConfig
from kbert.data.masking import IGNORED, Masking, MaskTokens
from kbert.data.random_bits import RANGE, random_bits, random_keys
from kbert.errors import InputError
from kbert.tokenization.tokenizer import BertTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = (*SPECIAL[:1], *(f"[unused{i}]" for i in range(7)), *SPECIAL[1:], *(f"w{i}" for i in range(88)))
PAD, UNK, CLS, SEP, MASK = map(VOCABULARY.index, SPECIAL)
FIRST_WORD = MASK + 1
T, ROWS = 128, 9000  # about a million tokens


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(VOCABULARY, TokenizerConfig())


@pytest.fixture(scope="module")
def corpus():
    """Rows of two segments, words of five tokens in three, here and there an [UNK]; some rows are short."""
    random = np.random.default_rng(5)
    token_ids = random.integers(FIRST_WORD, len(VOCABULARY), (ROWS, T)).astype("int32")
    lengths = np.where(random.random(ROWS) < 0.1, random.integers(8, T, ROWS), T)
    word_starts = random.random((ROWS, T)) < 0.6
    token_ids[random.random((ROWS, T)) < 0.01] = UNK
    token_ids[:, 0], token_ids[np.arange(ROWS), lengths // 2], token_ids[np.arange(ROWS), lengths - 1] = CLS, SEP, SEP
    padding_mask = (np.arange(T) < lengths[:, None]).astype("int32")
    token_ids[padding_mask == 0] = PAD
    ordinary = token_ids >= FIRST_WORD
    word_starts[:, 1:] |= ~ordinary[:, :-1]
    word_starts &= ordinary | (token_ids == UNK)
    segment_ids = (np.arange(T) > lengths[:, None] // 2).astype("int32") * padding_mask
    return {
        "token_ids": token_ids,
        "segment_ids": segment_ids,
        "padding_mask": padding_mask,
        "word_starts": word_starts,
    }


def masked(tokenizer, features, options, rows=None, epoch=2, seed=1):
    rows = np.arange(len(features["token_ids"])) if rows is None else rows
    mask = tf.function(MaskTokens(options, tokenizer, seed), autograph=False)
    batch = {name: tf.constant(values) for name, values in features.items()}
    x, y = mask(batch, tf.constant(rows, tf.int64), tf.constant(epoch, tf.int64))
    return {name: value.numpy() for name, value in x.items()}, y["tokens"].numpy()


def words_of(features):
    """The number of each token's word, counted over all rows; -1 of special tokens and padding."""
    ordinary = features["token_ids"] >= FIRST_WORD
    words = np.cumsum(features["word_starts"] & ordinary).reshape(ordinary.shape) - 1
    return np.where(ordinary, words, -1)


def deviations(hits, tries, rate):
    """How many standard errors a count lies from what is expected of independent draws."""
    return abs(hits - tries * rate) / math.sqrt(tries * rate * (1 - rate))


@pytest.mark.parametrize("rate", [0.15, 0.4])
@pytest.mark.parametrize("unit", MASK_UNITS)
def test_as_many_tokens_as_asked_for(tokenizer, corpus, unit, rate):
    """Units are not independent in a row, whatever they are, but rows are: their spread gives the standard error."""
    _, labels = masked(tokenizer, corpus, Masking(rate=rate, unit=unit))
    ordinary = corpus["token_ids"] >= FIRST_WORD
    assert ordinary.sum() > 1e6
    assert not (labels != IGNORED)[~ordinary].any()
    guessed = (labels != IGNORED).sum(axis=1)
    excess = guessed - rate * ordinary.sum(axis=1)
    assert abs(excess.sum()) < 3 * excess.std() * math.sqrt(ROWS)
    # Nowhere in a row is a token hidden more or less often than elsewhere.
    first, last = ordinary[:, 1], (corpus["token_ids"][:, -2] >= FIRST_WORD) & (corpus["padding_mask"][:, -1] == 1)
    assert deviations((labels[first, 1] != IGNORED).sum(), first.sum(), rate) < 3
    assert deviations((labels[last, -2] != IGNORED).sum(), last.sum(), rate) < 3


def test_the_standard_error_of_tokens_is_that_of_independent_draws(tokenizer, corpus):
    _, labels = masked(tokenizer, corpus, Masking(unit="token"))
    ordinary = corpus["token_ids"] >= FIRST_WORD
    assert deviations((labels != IGNORED).sum(), ordinary.sum(), 0.15) < 3
    neighbours = ordinary[:, 1:] & ordinary[:, :-1]
    both = (labels[:, 1:] != IGNORED) & (labels[:, :-1] != IGNORED)
    assert deviations(both.sum(), neighbours.sum(), 0.15**2) < 3


def test_what_stands_in_the_place_of_a_token(tokenizer, corpus):
    x, labels = masked(tokenizer, corpus, Masking())
    before, after, guessed = corpus["token_ids"], x["token_ids"], labels != IGNORED
    np.testing.assert_array_equal(after[~guessed], before[~guessed])
    np.testing.assert_array_equal(labels[guessed], before[guessed])
    np.testing.assert_array_equal(x["guessed"], guessed)
    tries, words = guessed.sum(), len(VOCABULARY) - FIRST_WORD
    is_mask, is_same = (after == MASK) & guessed, (after == before) & guessed
    assert deviations(is_mask.sum(), tries, 0.8) < 3
    assert deviations(is_same.sum(), tries, 0.1 + 0.1 / words) < 3  # a random word may be the same
    random = after[guessed & ~is_mask & ~is_same]
    assert random.min() >= FIRST_WORD
    # Each word as often as any other, of those that differ from what stood there.
    counts = np.bincount(random - FIRST_WORD, minlength=words)
    stood = np.bincount(before[guessed] - FIRST_WORD, minlength=words)
    expected = 0.1 * (tries - stood) / words
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - words) < 3 * math.sqrt(2 * words)
    # For each token of a word, not for the word.
    words_of_tokens = words_of(corpus)
    pairs = guessed[:, 1:] & (words_of_tokens[:, 1:] == words_of_tokens[:, :-1])
    assert deviations((is_mask[:, 1:] & is_mask[:, :-1])[pairs].sum(), pairs.sum(), 0.64) < 3


def test_other_fractions(tokenizer, corpus):
    few = {name: values[:500] for name, values in corpus.items()}
    x, labels = masked(tokenizer, few, Masking(mask_fraction=1.0, random_fraction=0.0))
    assert (x["token_ids"][labels != IGNORED] == MASK).all()
    x, labels = masked(tokenizer, few, Masking(mask_fraction=0.0, random_fraction=0.0))
    np.testing.assert_array_equal(x["token_ids"], few["token_ids"])


@pytest.mark.parametrize("unit", ["word", "span"])
def test_words_are_hidden_as_a_whole(tokenizer, corpus, unit):
    _, labels = masked(tokenizer, corpus, Masking(unit=unit))
    words = words_of(corpus)
    tokens = np.bincount(words[words >= 0])
    guessed = np.bincount(words[(words >= 0) & (labels != IGNORED)], minlength=len(tokens))
    assert set(np.unique(guessed / tokens)) == {0.0, 1.0}
    if unit == "word":
        assert deviations((guessed > 0).sum(), len(tokens), 0.15) < 3


def test_spans_are_as_long_as_asked_for(tokenizer):
    """At a low rate spans hardly meet: their lengths are those of the option, and none goes on behind a [SEP]."""
    ids = np.full((20000, 100), FIRST_WORD, "int32")
    ids[:, 0], ids[:, 50], ids[:, 99] = CLS, SEP, SEP
    ordinary = ids == FIRST_WORD
    features = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids * 0 + 1, "word_starts": ordinary}
    _, labels = masked(tokenizer, features, Masking(rate=0.002, unit="span"))
    guessed = labels != IGNORED
    inner = guessed[:, 6:44]
    starts = inner & ~guessed[:, 5:43]
    lengths = np.select([~guessed[:, 7 + i : 45 + i] for i in range(4)], [1, 2, 3, 4], 5)[starts]
    for length, share in zip((1, 2, 3, 4), (0.4, 0.3, 0.2, 0.1), strict=True):
        # Where two spans meet, at most one in a hundred, a length is another.
        assert abs((lengths == length).mean() - share) < 3 * math.sqrt(share / len(lengths)) + 0.01
    for place in (1, 49, 51, 98):
        assert deviations(guessed[:, place].sum(), len(ids), 0.002) < 3
    # What begins before a [SEP] ends there: both sides are hidden together as often as chance has it.
    assert (guessed[:, 49] & guessed[:, 51]).sum() <= 3


@pytest.mark.parametrize("unit", MASK_UNITS)
def test_a_row_is_masked_alike_in_every_batch(tokenizer, corpus, unit):
    options = Masking(unit=unit)
    some = np.array([17, 3, 4000, 8999])
    whole, labels = masked(tokenizer, corpus, options)
    alone = {name: values[some] for name, values in corpus.items()}
    fillings = {"token_ids": PAD, "segment_ids": 0, "padding_mask": 0, "word_starts": False}
    padded = {n: np.pad(v, [(0, 0), (0, 9)], constant_values=fillings[n]) for n, v in alone.items()}
    x, y = masked(tokenizer, padded, options, rows=some)
    np.testing.assert_array_equal(x["token_ids"][:, :T], whole["token_ids"][some])
    np.testing.assert_array_equal(y[:, :T], labels[some])
    assert (y[:, T:] == IGNORED).all()
    for change in ({"epoch": 3}, {"seed": 2}, {"rows": some + 1}):
        _, other = masked(tokenizer, alone, options, **{"rows": some, **change})
        agree = ((other != IGNORED) & (labels[some] != IGNORED)).sum()
        assert agree < 0.5 * (other != IGNORED).sum()


def test_a_row_that_begins_or_goes_on_inside_a_word(tokenizer):
    """What stands behind a special token begins a word, whether or not the corpus says so."""
    ids = np.tile(np.array([CLS, 30, 31, UNK, 32, SEP], "int32"), (3000, 1))
    features = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids * 0 + 1}
    _, labels = masked(tokenizer, features | {"word_starts": np.zeros(ids.shape, bool)}, Masking())
    guessed = labels != IGNORED
    np.testing.assert_array_equal(guessed[:, 1], guessed[:, 2])
    assert deviations(guessed[:, 1].sum(), 3000, 0.15) < 3
    assert deviations((guessed[:, 1] & guessed[:, 4]).sum(), 3000, 0.15**2) < 3


def test_pairs_keep_their_label(tokenizer, corpus):
    few = {name: tf.constant(values[:3]) for name, values in corpus.items()} | {"pair_label": tf.constant([0, 1, 1])}
    _, y = MaskTokens(Masking(), tokenizer)(few, tf.range(3, dtype=tf.int64), 0)
    np.testing.assert_array_equal(y["pair_label"], [0, 1, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, r"`rate` must be in \(0, 1\)"),
        ({"unit": "letter"}, "`unit` must be one of token, word, span"),
        ({"mask_fraction": 0.9, "random_fraction": 0.2}, "must be 0 or more, and 1 together at most"),
        ({"span_lengths": (0.5, 0.4)}, "`span_lengths` must be shares that add up to 1"),
    ],
)
def test_options_that_are_none(options, message):
    with pytest.raises(InputError, match=message):
        Masking(**options)


def test_a_vocabulary_without_a_mask():
    with pytest.raises(InputError, match=r"the vocabulary has no \[MASK\], which hides"):
        MaskTokens(Masking(), BertTokenizer(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"), TokenizerConfig()))


# === Random numbers ===


def test_random_numbers_are_those_of_splitmix64():
    """https://prng.di.unimi.it/splitmix64.c, from seed 1234567; and written out in whole numbers."""
    first = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    numbers = random_bits(tf.constant(1234567, tf.uint64), tf.range(4, dtype=tf.int64))
    np.testing.assert_array_equal(numbers, [number >> 32 for number in first])

    def number(seed, place):
        z = (seed + (place + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    keys = random_keys(7, 0, tf.constant([3, 2**40], tf.int64))
    expected = [[number(number(number(number(0, 7), 0), row), place) >> 32 for place in (-2, 5)] for row in (3, 2**40)]
    np.testing.assert_array_equal(random_bits(keys[:, None], tf.constant([-2, 5], tf.int64)), expected)


def test_random_numbers_are_uniform_and_independent():
    numbers = random_bits(random_keys(0, 1, tf.range(1000, dtype=tf.int64))[:, None], tf.range(1000, dtype=tf.int64))
    values = numbers.numpy() / RANGE
    assert values.min() >= 0
    assert values.max() < 1
    bins = 200
    for counted in (values[:, :-1] * bins, values * 2**16 % 1 * bins):  # high bits, low bits
        counts = np.bincount(counted.astype(int).ravel(), minlength=bins)
        chi_square = ((counts - counted.size / bins) ** 2).sum() / (counted.size / bins)
        assert abs(chi_square - (bins - 1)) < 4 * math.sqrt(2 * bins)
    flat = values - 0.5
    for shift in (flat[:, 1:] * flat[:, :-1], flat[1:] * flat[:-1], flat[1:, 1:] * flat[:-1, :-1]):
        assert abs(shift.mean()) < 4 / 12 / math.sqrt(shift.size)
