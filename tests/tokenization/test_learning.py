"""Learning a vocabulary: the algorithm against a plain one, the choice of characters, and what others make of it."""

from __future__ import annotations

import itertools
import logging
import random
from collections import Counter

import pytest
import tensorflow as tf
from tokenizers import BertWordPieceTokenizer

from kbert.config import TokenizerConfig
from kbert.errors import InputError
from kbert.tokenization import learning
from kbert.tokenization.learning import learn_vocabulary
from kbert.tokenization.tokenizer import BertTokenizer
from kbert.tokenization.words import WordSplitter

from .reference import SETTINGS, fuzz, reference_tokenizer

FIRST = 104  # the place of the first token that is learnt


def random_texts(seed: int, letters: str, count: int = 60) -> list[str]:
    """Texts whose words are random, so that many pairs are equally frequent."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(count)]
    return [" ".join(rng.choices(words, k=17)) for _ in range(count)]


def plain_pieces(words: Counter[str], size: int, min_frequency: int) -> list[str]:
    """Characters and merged pairs, everything counted anew for each pair; ties go to the earlier pieces."""
    pieces = sorted({c for word in words for c in word}) + sorted({"##" + c for word in words for c in word[1:]})
    spelt = {word: [word[0], *("##" + c for c in word[1:])] for word in words}
    pairs: Counter[tuple[str, str]]
    while len(pieces) < size:
        pairs = Counter()
        for word, parts in spelt.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        if max(pairs.values(), default=0) < min_frequency:
            break
        first, second = min(pairs, key=lambda pair: (-pairs[pair], pieces.index(pair[0]), pieces.index(pair[1])))
        piece = first + second.removeprefix("##")
        if piece not in pieces:
            pieces.append(piece)
        for parts in spelt.values():
            i = 0
            while i + 1 < len(parts):
                if parts[i : i + 2] == [first, second]:
                    parts[i : i + 2] = [piece]
                i += 1
    return pieces


# === Words ===


@pytest.mark.parametrize("setting", SETTINGS)
def test_words_are_those_of_hugging_face(setting):
    config = SETTINGS[setting]
    reference = reference_tokenizer(["[UNK]"], config)
    texts = [*fuzz(11, 1500), "a" * 100 + " " + "b" * 101 + "中" + "é" * 100 + "." + "ж" * 150 + " c", "", " \t"]
    got = WordSplitter(config)(tf.constant([text.encode() for text in texts])).to_list()
    for text, words in zip(texts, got, strict=True):
        expected = reference.pre_tokenizer.pre_tokenize_str(reference.normalizer.normalize_str(text))
        assert [word.decode() for word in words] == [word for word, _ in expected if len(word) <= 100], text


# === Pieces ===


@pytest.mark.parametrize(("letters", "min_frequency"), [("abcdefgh", 1), ("nopqrst", 40), ("аβcד한", 7)])
def test_pieces_are_those_of_the_plain_algorithm(letters, min_frequency):
    texts = random_texts(5, letters)
    words = Counter(" ".join(texts).split())
    expected = plain_pieces(words, 150, min_frequency)
    learnt = learn_vocabulary(texts, FIRST + 150, TokenizerConfig(strip_accents=False), min_frequency)
    assert list(learnt.tokens[FIRST:]) == expected
    assert (learnt.num_words, learnt.num_distinct_words) == (words.total(), len(words))
    assert (learnt.num_unknown_words, learnt.left_out, learnt.num_characters) == (0, (), len(set(letters)))


def test_every_run_gives_the_same_tokens():
    """The trainer's hash maps differ in each run, within a process too."""
    texts = random_texts(3, "abcdefghijklmnopqrstuvwxyz", 40)
    assert len({learn_vocabulary(texts, FIRST + 211, min_frequency=1).tokens for _ in range(7)}) == 1


def test_special_tokens_are_where_google_has_them():
    tokens = learn_vocabulary(["b a", "a!"], FIRST + 7, TokenizerConfig(unk_token="<unk>"), min_frequency=1).tokens
    assert tokens[:2] == ("[PAD]", "[unused0]")
    assert tokens[98:] == ("[unused97]", "[unused98]", "<unk>", "[CLS]", "[SEP]", "[MASK]", "!", "a", "b")


def test_cased():
    texts = ["Été ÉTÉ"] * 3
    assert {"ete", "e"} <= set(learn_vocabulary(texts, 150).tokens)
    cased = set(learn_vocabulary(texts, 150, TokenizerConfig(do_lower_case=False)).tokens)
    assert {"Été", "ÉTÉ"} <= cased
    assert "ete" not in cased


def test_where_chunks_end_does_not_matter(monkeypatch):
    texts = [*random_texts(9, "abcdef中。"), "x" * 50, "yz" * 9]
    expected = learn_vocabulary(texts, 300)
    monkeypatch.setattr(learning, "_CHUNK", 61)
    assert learn_vocabulary(texts, 300) == expected
    assert learn_vocabulary(["\n".join(texts)], 300) == expected
    assert max(map(len, learning._chunks(["\n".join(texts)]))) <= 61 + 61


def test_counts_that_the_trainer_cannot_hold_are_scaled_down(monkeypatch):
    texts = ["abc abc abc abc abc abc abc abc abd abd abd"]
    assert "abd" in learn_vocabulary(texts, 150).tokens
    monkeypatch.setattr(learning, "_MOST_PAIRS", 3)  # ##b occurs 11 times: a fourth of each count
    tokens = learn_vocabulary(texts, 150).tokens
    assert "abc" in tokens
    assert "abd" not in tokens


# === Characters ===


def test_a_character_is_kept_if_it_is_as_frequent_as_the_last_word(caplog):
    # With room for 6 tokens the last word has 5 occurrences.
    texts = ["aa " * 9, "ab " * 8, "ba " * 7, "bb " * 6, "中 " * 6, "。 " * 5, "国 " * 3, "ac " * 4]
    with caplog.at_level(logging.INFO):
        learnt = learn_vocabulary(texts, FIRST + 6)
    assert learnt.tokens[FIRST:] == ("a", "b", "。", "中", "##a", "##b")
    assert learnt.left_out == ("c", "国")
    assert (learnt.num_characters, learnt.num_unknown_words, learnt.num_words) == (4, 7, 48)
    assert "2 of 6 characters are too rare for a place, with 4 occurrences at most: c 国" in caplog.text
    everything = learn_vocabulary(texts, FIRST + 30)
    assert everything.tokens[FIRST : FIRST + 9] == ("a", "b", "c", "。", "中", "国", "##a", "##b", "##c")
    assert (everything.left_out, everything.num_unknown_words) == ((), 0)


def test_a_rare_character_is_left_out():
    learnt = learn_vocabulary(["ab ab ab zq"], 150)
    assert learnt.tokens[FIRST:] == ("a", "b", "##b", "ab")
    assert learnt.left_out == ("q", "z")
    assert learn_vocabulary(["ab ab ab zq"], 150, min_frequency=1).tokens[-2:] == ("ab", "zq")


def test_an_error_names_the_least_size_that_works():
    texts = random_texts(2, "abcdefghij")
    with pytest.raises(InputError, match="tokens has no room") as caught:
        learn_vocabulary(texts, 17)
    least = int(str(caught.value).split()[-1])
    assert len(learn_vocabulary(texts, least).tokens) == least
    for size in (FIRST, least - 1):
        with pytest.raises(InputError, match=f"A vocabulary of {size} tokens .*: give a size of at least {least}$"):
            learn_vocabulary(texts, size)


@pytest.mark.parametrize("texts", [[], [""], [" \n", "\u200b"], ["one", "x" * 101 * 2]])
def test_a_corpus_with_nothing_to_learn(texts):
    with pytest.raises(InputError, match="no character that occurs 3 times"):
        learn_vocabulary(texts, min_frequency=3)


def test_fewer_tokens_than_asked_for_are_reported(caplog):
    with caplog.at_level(logging.INFO):
        learnt = learn_vocabulary(["ab ab 中"], 200, min_frequency=1)
    assert learnt.tokens[FIRST:] == ("a", "b", "中", "##b", "ab")
    assert "109 tokens, not 200" in caplog.text


def test_wrong_arguments():
    with pytest.raises(InputError, match="one string"):
        learn_vocabulary("corpus.txt")
    with pytest.raises(InputError, match="`min_frequency` must be at least 1. Received: 0"):
        learn_vocabulary(["a"], min_frequency=0)


# === What others make of it ===


def test_the_vocabulary_serves_kbert_and_tokenizers(tmp_path):
    texts = ["Das Pferd frisst keinen Gurkensalat.", "我爱北京天安门。", "Съешь ещё этих мягких булок", "ж" * 90]
    learnt = learn_vocabulary([*texts * 2, "half a pair: \ud800"], 400)
    assert max(map(len, learnt.tokens)) <= 64  # no piece of the word that the kernel could not hold
    file = tmp_path / "vocab.txt"
    file.write_text("".join(token + "\n" for token in learnt.tokens), encoding="utf8")
    theirs = BertWordPieceTokenizer(str(file))
    assert theirs.get_vocab() == {token: i for i, token in enumerate(learnt.tokens)}
    ours = BertTokenizer(learnt.tokens)
    for text in texts:
        ids = ours([text])["token_ids"].numpy()[0].tolist()
        assert ids == theirs.encode(text).ids
        assert ours.unk_id not in ids
    assert ours(["Pferd"])["token_ids"].shape[1] == 3  # one piece and the two around it
