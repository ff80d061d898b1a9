"""A private alphabet, in which text and vocabulary meet; no TensorFlow.

tf-text's FastWordpieceTokenizer splits text by itself, by the Unicode tables of the ICU it was built with, and those
differ between releases. So text reaches it in characters on which all releases agree, each kind having its own:

    ASCII letters, digits and punctuation    stand for themselves, so that plain ASCII text needs no rewriting
    other letters of the vocabulary          private use and Hangul: never punctuation, never white space
    other words of one character             Chinese ideographs: always split off
    anything that no token holds             one private character of either kind
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kbert.config import TokenizerConfig
from kbert.errors import InputError
from kbert.tokenization.code_points import ALONE, LETTER, NUM_CODE_POINTS, CodePointTable, build_table

SUFFIX = "##"
MAX_WORD_LENGTH = 100  # characters; a longer word is unknown (Hugging Face's `max_input_chars_per_word`)
TYPED_TOKENS_START = 0x10FF00  # in a private plane: normalization drops what stands there
_MAX_TOKEN_BYTES = 256  # FastWordpieceTokenizer's own limit, the suffix mark not counted
_PAGE = 256  # the normalizer shifts code points by 8 bits


class PagedTable(NamedTuple):
    """One int32 for each code point, in pages; equal pages are stored once."""

    starts: np.ndarray
    """int32 [NUM_CODE_POINTS / 256]: where the page of a code point begins in `values`."""
    values: np.ndarray
    """int32 [pages * 256]."""


class TypedToken(NamedTuple):
    """A special token that counts as such where text spells it out."""

    token: str
    """How text spells it."""
    code_point: int
    """What takes its place in the text; private, so that normalization drops it where a user types it."""
    code: int
    """What it is in the private alphabet."""


@dataclass(frozen=True)
class Spelling:
    """Vocabulary and code point table in the private alphabet.

    A character is held as `2 * code + edge`; `edge` is 1 for white space and for a word of one character.
    """

    vocabulary: list[str]
    """The tokens as FastWordpieceTokenizer gets them; a token that no text can meet is a mere place holder."""
    characters: PagedTable
    """What a code point becomes; 0: nothing; negative: see row `-value` of `expansions`."""
    expansions: np.ndarray
    """int32 [K, 3]: the characters of a code point that becomes several, filled up with 0; row 0 is empty."""
    movable: int
    """As in CodePointTable, and the next three too."""
    ordering: PagedTable
    parts: np.ndarray
    classes: np.ndarray
    unknown_letter: int
    """The character that stands for all letters that the vocabulary does not hold."""
    typed: tuple[TypedToken, ...]
    """The special tokens to look for in text."""


def spell(vocabulary: Sequence[str], config: TokenizerConfig, typed_tokens: Iterable[str] = ()) -> Spelling:
    """Give every character of the vocabulary its private one.

    Args:
        vocabulary: The tokens in the order of their ids.
        config: The tokenizer's settings.
        typed_tokens: The special tokens that count as such where text spells them out.

    Returns:
        The tables that the graph needs.

    Raises:
        InputError: A token is too long, or the vocabulary has more characters than the private alphabet.
    """
    table = build_table(config)
    typed: list[TypedToken] = []
    letters, words = _letters(), _words()
    unknown_letter, unknown_word = next(letters), next(words)
    # Value 0 stands for a character that has no place yet.
    codes = np.zeros(NUM_CODE_POINTS, np.int32)
    codes[0x21:0x7F] = np.arange(0x21, 0x7F)
    for token in vocabulary:
        for c in _characters(token, table):
            if not codes[c]:
                try:
                    codes[c] = next(letters if table.kind[c] == LETTER else words)
                except StopIteration:
                    raise InputError("Vocabulary: its tokens hold more different characters than supported") from None

    spelled = [_spell_token(i, token, table, codes) for i, token in enumerate(vocabulary)]
    codes[codes == 0] = np.where(table.kind == LETTER, unknown_letter, unknown_word)[codes == 0]
    codes[ord(" ")] = ord(" ")
    for token in sorted(set(typed_tokens), key=lambda t: (-len(t), t)):  # the longest that fits counts
        special = TypedToken(token, TYPED_TOKENS_START + len(typed), next(words))
        spelled[vocabulary.index(token)] = chr(special.code)
        typed.append(special)
    return _spelling(spelled, table, codes, unknown_letter, typed)


def spell_as_is(config: TokenizerConfig) -> Spelling:
    """An alphabet in which every character stands for itself, to read words and not their ids.

    Characters of a word that is too long become white space.
    """
    return _spelling([], build_table(config), np.arange(NUM_CODE_POINTS, dtype=np.int32), ord(" "), [])


def _spelling(
    vocabulary: list[str], table: CodePointTable, codes: np.ndarray, unknown_letter: int, typed: list[TypedToken]
) -> Spelling:
    """The tables of normalization with the code of each character, int32 [NUM_CODE_POINTS], in its place."""
    values = 2 * codes + (table.kind != LETTER)
    values[0] = 0
    characters = np.where(table.output >= 0, values[np.maximum(table.output, 0)], table.output)
    for special in typed:
        characters[special.code_point] = 2 * special.code + 1
    return Spelling(
        vocabulary,
        _paged(characters),
        values[table.expansions],
        table.movable,
        _paged(table.ordering),
        values[table.parts],
        table.classes,
        2 * unknown_letter,
        tuple(typed),
    )


def _letters() -> Iterator[int]:
    """Codes for letters: private use, Hangul syllables, then the private planes."""
    return itertools.chain(
        range(0xE000, 0xF900), range(0xAC00, 0xD7A4), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)
    )


def _words() -> Iterator[int]:
    """Codes for words of one character: the Chinese ideographs that FastWordpieceTokenizer lists by number."""
    return itertools.chain(range(0x4E00, 0xA000), range(0x3400, 0x4DC0), range(0x20000, 0x2A6E0))


def _characters(token: str, table: CodePointTable) -> list[int]:
    """The characters of a token that text can meet; none where text cannot meet it."""
    if len(token) == 1:
        alone = ord(token)
        return [alone] if table.kind[alone] in (LETTER, ALONE) else []
    body = [ord(c) for c in token.removeprefix(SUFFIX)]
    if not 0 < len(body) <= MAX_WORD_LENGTH or any(table.kind[c] != LETTER for c in body):
        return []
    return body


def _spell_token(i: int, token: str, table: CodePointTable, codes: np.ndarray) -> str:
    """A token in private characters."""
    body = "".join(chr(codes[c]) for c in _characters(token, table))
    if not body:
        return f"[{i}]"  # FastWordpieceTokenizer leaves out what mixes punctuation with other characters
    if len(body.encode()) > _MAX_TOKEN_BYTES:
        raise InputError(f"Vocabulary: token {i} is too long ({len(token)} characters): {token!r}")
    return SUFFIX + body if len(token) > 1 and token.startswith(SUFFIX) else body


def _paged(table: np.ndarray) -> PagedTable:
    """Split a table [NUM_CODE_POINTS] into pages."""
    places: dict[bytes, int] = {}
    rows = table.astype(np.int32).reshape(-1, _PAGE)
    starts = [places.setdefault(row.tobytes(), len(places)) * _PAGE for row in rows]
    return PagedTable(np.array(starts, np.int32), np.frombuffer(b"".join(places), np.int32))
