"""A WordPiece vocabulary from texts: the same for the same texts, on every machine and in every run."""

from __future__ import annotations

import bisect
import itertools
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tqdm import tqdm

from kbert.config import TokenizerConfig
from kbert.errors import InputError
from kbert.tokenization.spelling import SUFFIX
from kbert.tokenization.vocabulary import NUM_FIRST_TOKENS, first_tokens

_log = logging.getLogger(__name__)
_CHUNK = 2**20  # characters that are normalized together
_BREAKS = " \n\t\r.,;:!?'\"()[]{}<>/|=&_-。，、！？；：「」《》"  # white space and punctuation in every setting
# A longer piece might be more than the tokenizer's kernel holds, which counts bytes.
_LONGEST_LEARNT = 64
_MOST_PAIRS = 2**31 - 1  # the trainer counts pairs in 32 bits, and does not notice when they are not enough
_REPEATS = 256  # words that the trainer gets at once
_SHOWN = 20


@dataclass(frozen=True)
class LearntVocabulary:
    """A vocabulary, and what it makes of the texts it was learnt from."""

    tokens: tuple[str, ...]
    """Special and unused tokens, characters, suffix characters, then pieces in the order they were learnt."""
    num_characters: int
    """Different characters that the tokens hold, special tokens aside."""
    left_out: tuple[str, ...]
    """The texts' other characters, most frequent first; a word with one of them is unknown."""
    num_words: int
    """Words of the texts."""
    num_distinct_words: int
    """Different words of the texts."""
    num_unknown_words: int
    """Words of the texts that the tokens cannot spell."""


def learn_vocabulary(
    texts: Iterable[str], size: int = 30_000, config: TokenizerConfig = TokenizerConfig(), min_frequency: int = 2
) -> LearntVocabulary:
    """Learn a WordPiece vocabulary (Wu et al. 2016, section 4.1) as BERT's tokenizer splits texts into words.

    From the characters of all words, the most frequent pair of neighbouring pieces becomes a piece of its own, until
    `size` is reached. A character is in the vocabulary if it occurs at least `min_frequency` times and as often as
    the last of the `size` most frequent words; its form with "##" likewise, counted where it does not begin a word.
    So the rare signs of a large corpus take no place from its frequent words, and all are kept where there is room.

    Args:
        texts: The corpus, in pieces of any length that do not end within a word. Read once; what stays in memory are
            the distinct words.
        size: Tokens of the vocabulary, special and unused ones included.
        config: The normalization, and the names of the special tokens.
        min_frequency: How often a character or a pair of pieces must occur in all texts together.

    Returns:
        The vocabulary. It has fewer tokens than `size` where the texts hold no more pairs that are frequent enough.

    Raises:
        InputError: The texts hold no word, or no character that is frequent enough; or `size` is too small for the
            characters.
    """
    if isinstance(texts, str):
        raise InputError("learn_vocabulary: `texts` must be several texts. Received: one string")
    if min_frequency < 1:
        raise InputError(f"learn_vocabulary: `min_frequency` must be at least 1. Received: {min_frequency}")
    words = _count_words(texts, config)
    counts = _form_counts(words)
    alphabet = _alphabet(counts, words, size, min_frequency)
    spelt = _spelt(words, alphabet)
    _log.info("learning word pieces from %d different words", len(spelt))
    first = first_tokens(config)
    pieces = _learn_pieces(spelt, counts, alphabet, size - len(first), min_frequency)
    left_out = [form for form in counts.keys() - set(alphabet) if len(form) == 1]
    learnt = LearntVocabulary(
        tokens=(*first, *(piece for piece in pieces if piece not in first)),
        num_characters=sum(len(form) == 1 for form in alphabet),
        left_out=tuple(sorted(left_out, key=lambda c: (-counts[c], c))),
        num_words=words.total(),
        num_distinct_words=len(words),
        num_unknown_words=words.total() - sum(spelt.values()),
    )
    _note_what_is_missing(learnt, size, counts)
    return learnt


def _note_what_is_missing(learnt: LearntVocabulary, size: int, counts: Mapping[str, int]) -> None:
    if left_out := learnt.left_out:
        shown = " ".join(left_out[:_SHOWN]) + (" …" if len(left_out) > _SHOWN else "")
        _log.info(
            "%d of %d characters are too rare for a place, with %d occurrences at most: %s",
            len(left_out),
            len(left_out) + learnt.num_characters,
            counts[left_out[0]],
            shown,
        )
    if len(learnt.tokens) < size:
        _log.info("%d tokens, not %d: the corpus holds no other that is frequent enough", len(learnt.tokens), size)


# === Words ===


def _count_words(texts: Iterable[str], config: TokenizerConfig) -> Counter[str]:
    """The distinct words of texts, normalized, and how often each occurs."""
    import tensorflow as tf

    from kbert.tokenization.words import WordSplitter

    split = WordSplitter(config)
    counts: Counter[bytes] = Counter()
    with tqdm(desc="counting words", unit="char", unit_scale=True, file=sys.stderr, delay=2, leave=False) as bar:
        for chunk in _chunks(texts):
            # Half of a surrogate pair is invalid UTF-8, which normalization drops.
            words = split(tf.constant([chunk.encode("utf-8", "surrogatepass")])).flat_values
            distinct, _, numbers = tf.unique_with_counts(words)
            for word, number in zip(distinct.numpy().tolist(), numbers.numpy().tolist(), strict=True):
                counts[word] += number
            bar.update(len(chunk))
    return Counter({word.decode(): count for word, count in counts.items()})


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    """The texts put together, or cut between words, to chunks of a bounded size."""
    parts: list[str] = []
    size = 0
    for part in itertools.chain.from_iterable(map(_cut, texts)):
        parts.append(part)
        size += len(part) + 1
        if size >= _CHUNK:
            yield "\n".join(parts)
            parts, size = [], 0
    if parts:
        yield "\n".join(parts)


def _cut(text: str) -> Iterator[str]:
    """A text in parts of at most `_CHUNK` characters; only what has no break for so long is cut within a word."""
    start = 0
    while len(text) - start > _CHUNK:
        end = start + _CHUNK
        last_break = max(text.rfind(sign, start + 1, end) for sign in _BREAKS)
        if last_break > 0:
            end = last_break
        yield text[start:end]
        start = end
    yield text[start:]


# === Characters ===


def _form_counts(words: Mapping[str, int]) -> Counter[str]:
    """How often each character occurs; and with "##", how often where it does not begin a word."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
        for character in word[1:]:
            counts[SUFFIX + character] += count
    return counts


def _alphabet(counts: Mapping[str, int], words: Mapping[str, int], size: int, min_frequency: int) -> list[str]:
    """The characters that have a place, by code point, then those with "##".

    Args:
        counts: What `_form_counts` made of the words.
        words: Counts of all words.
        size: Tokens of the vocabulary.
        min_frequency: The least count.
    """
    if max(counts.values(), default=0) < min_frequency:
        raise InputError(f"The corpus is too small: it has no character that occurs {min_frequency} times")
    ascending = sorted(counts.values())
    by_rank = sorted(words.values(), reverse=True)

    def threshold(room: int) -> int:
        return max(min_frequency, by_rank[room - 1] if room <= len(by_rank) else 0)

    def fits(room: int) -> bool:
        return room > 0 and len(ascending) - bisect.bisect_left(ascending, threshold(room)) <= room

    room = size - NUM_FIRST_TOKENS
    if not fits(room):
        least = NUM_FIRST_TOKENS + next(filter(fits, itertools.count(max(room, 1))))
        raise InputError(
            f"A vocabulary of {size} tokens has no room for the special tokens and the characters of this corpus: "
            f"give a size of at least {least}"
        )
    kept = [form for form, count in counts.items() if count >= threshold(room)]
    return sorted(kept, key=lambda form: (len(form), form))


def _spelt(words: Mapping[str, int], alphabet: Iterable[str]) -> dict[str, int]:
    """The words that the characters can spell."""
    forms = set(alphabet)
    return {
        word: count
        for word, count in words.items()
        if word[0] in forms and all(SUFFIX + character in forms for character in word[1:])
    }


# === Pieces ===


def _learn_pieces(
    words: Mapping[str, int], counts: Mapping[str, int], alphabet: list[str], size: int, min_frequency: int
) -> list[str]:
    """The characters, then the pieces in the order they were learnt; `size` of them or fewer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import CharDelimiterSplit
    from tokenizers.trainers import WordPieceTrainer

    tokenizer = Tokenizer(WordPiece())
    tokenizer.pre_tokenizer = CharDelimiterSplit(" ")
    # The trainer numbers characters with "##" in the order of a hash map that differs in each process, and of two
    # pairs that are equally frequent takes the one with the lower numbers. Named beforehand, they have fixed numbers.
    # A pair is at most as frequent as the character that ends it.
    divisor = 1 + max((count for form, count in counts.items() if len(form) > 1), default=0) // _MOST_PAIRS
    trainer = WordPieceTrainer(
        vocab_size=size, min_frequency=max(1, min_frequency // divisor), special_tokens=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_repeated(words, divisor), trainer)
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def _repeated(words: Mapping[str, int], divisor: int) -> Iterator[str]:
    """Each word as often as it is counted, or a fraction of that: the trainer takes texts, not counts."""
    for word, count in words.items():
        if 1 < len(word) <= _LONGEST_LEARNT:
            for rest in range(count // divisor, 0, -_REPEATS):
                yield " ".join([word] * min(rest, _REPEATS))
