"""Texts to sentences by rules, for English and Chinese.

The rules are regular expressions and a little Python, which are slow for a corpus. So arrays of characters decide the
plain cases, of many texts together, and leave the others to the rules.

Legend: L characters of all texts together, S signs that may end a sentence, E ends.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence

import numpy as np

_CLOSING = "\"'”’)\\]»」』）】》〉"
_OPENING = "\"'“‘(\\[«「『（【《〈"
_CAPITAL = "A-ZÀ-ÖØ-ÞĀ\u0391-\u03a9\u0410-\u042fЁ0-9"
_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_END = re.compile(
    "[.!?。！？；…\n](?:"
    # A stop of Latin script, white space, and a capital, a digit, an opening sign or an ideograph.
    f"(?<=[.!?…])[.!?…]*[{_CLOSING}]*\\s+(?=[{_OPENING}{_CAPITAL}{_CHINESE}])"
    # "!" and "?" between ideographs, as Chinese typed on a Latin keyboard has them.
    f"|(?<=[!?])[!?]*[{_CLOSING}]*(?=[{_CHINESE}])"
    f"|(?<=[。！？；])[。！？；…!?]*[{_CLOSING}]*\\s*"
    f"|(?<=…)[。！？；…!?]*[{_CLOSING}]*(?=[{_CHINESE}{_OPENING}])"
    r"|(?<=\n)[^\S\n]*\n\s*"
    ")"
)
# No sentence ends with these.
_TITLES = frozenset(
    "mr mrs ms messrs dr prof st gen col maj capt lt sgt cpl cmdr adm rev hon pres gov sen rep supt insp "
    "vs cf viz ca approx esp al inc corp co ltd bros dept univ assn ave blvd rd mt ft jr sr ph".split()
)
# Nor with these before a number.
_BEFORE_NUMBERS = frozenset(
    "no nos nr fig figs p pp vol vols ch chap sec sect art arts eq eqs op pt pl tab para "
    "jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
_LONGEST_ABBREVIATION = 8  # characters
_LONGEST_WORD = 12  # characters that are looked at before a full stop, with signs before the word
_LONGEST = 2**14  # characters of a sentence: more than any row of a model has


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, without white space around them.

    A sentence ends with `.`, `!` or `?`, and closing signs, where white space follows and then a capital, a digit, an
    opening sign or an ideograph; with `。`, `！`, `？` or `；`; with `…` likewise; and with a blank line. A single line
    end is white space, for text that is broken into lines. Common abbreviations ("Dr.", "No. 5", "U.S."), initials
    ("J. Smith") and numbers of lists ("1. The first") do not end one.

    These are rules, not a model: of an abbreviation that does end a sentence ("in the U.S. He left") the sentence goes
    on; an unknown one before a name ends it; a sentence that begins in lower case, a heading without a stop, and
    scripts other than Latin, Greek, Cyrillic and Chinese are not told apart. A sentence of more than 16,384 characters
    is cut between words.
    """
    return split_documents([text])[0]


def split_documents(documents: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The sentences of texts, those of one after those of another, as `split_sentences` gives them.

    Returns:
        The sentences, and the number of the text that each is of: int64 [sentences].
    """
    text = _BORDER.join([*documents, 2 * _BORDER])
    lengths = np.array([len(document) for document in documents], np.int64)
    begins = np.cumsum(lengths + 1) - lengths - 1
    starts = np.sort(np.append(begins, _ends(text, begins)))
    numbers = np.searchsorted(begins, starts, side="right") - 1
    ends = np.minimum(np.append(starts[1:], len(text)), (begins + lengths)[numbers])
    sentences = [text[begin:end].strip() for begin, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    if (ends - starts > _LONGEST).any():
        parts = [_cut(sentence) for sentence in sentences]
        numbers = np.repeat(numbers, [len(part) for part in parts])
        sentences = list(itertools.chain.from_iterable(parts))
    if not all(sentences):
        numbers = numbers[[sentence != "" for sentence in sentences]]
        sentences = list(filter(None, sentences))
    return sentences, numbers


# === Where sentences end ===

_BORDER = "\0"  # between texts; three behind the last: so far do the arrays look beyond a sign
_STOP, _OTHER_STOP, _LINE, _SPACE, _CLOSES, _BEGINS = (1 << i for i in range(6))


@functools.cache
def _kinds() -> np.ndarray:
    """What each character is, several of the kinds above or none: uint8 [2**16]; beyond, all are none."""
    kinds = np.zeros(2**16, np.uint8)
    characters = "".join(map(chr, range(len(kinds))))
    for kind, those in (
        (_STOP, "[.!?]"),
        (_OTHER_STOP, "[…。！？；]"),
        (_LINE, r"\n"),
        (_SPACE, r"\s"),
        (_CLOSES, f"[{_CLOSING}]"),
        (_BEGINS, f"[{_OPENING}{_CAPITAL}{_CHINESE}]"),
    ):
        kinds[[match.start() for match in re.finditer(those, characters)]] |= kind
    return kinds


def _kinds_of(codes: np.ndarray) -> np.ndarray:
    """What characters are: uint8, of the shape of `codes`."""
    return _kinds().take(codes, mode="clip")


def _ends(text: str, begins: np.ndarray) -> np.ndarray:
    """Where the sentences of texts end, but for the last of each: int64 [E].

    Args:
        text: the texts, each with a border behind it.
        begins: int64 [texts], where each begins.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)  # [L]
    signs, ends = _matches(text, codes)
    doubtful = np.flatnonzero((codes[signs] == ord(".")) & ~_are_words(codes, signs))
    text_begins = begins[np.searchsorted(begins, signs[doubtful], side="right") - 1]
    kept = np.ones(len(ends), np.bool_)
    begin = 0
    places = (doubtful, text_begins, np.append(0, ends)[doubtful], signs[doubtful], ends[doubtful])
    for i, text_begin, end_before, stop, end in zip(*(array.tolist() for array in places), strict=True):
        begin = max(text_begin, end_before if i == 0 or kept[i - 1] else begin)
        kept[i] = not _goes_on(text, begin, stop, end)
    return ends[kept]


def _matches(text: str, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the matches of `_END` in a text begin, in order, and where they end: int64 [E] each.

    Args:
        text: the text.
        codes: its characters, uint32 [L].
    """
    is_sign = codes >= ord("…")  # those of Chinese, and more; comparisons are far quicker than a table
    for sign in ".!?\n":
        is_sign |= codes == ord(sign)
    signs = np.flatnonzero(is_sign)
    kind, behind = _kinds_of(codes[signs]), _kinds_of(codes[signs + 1])
    may_end = (kind & (_STOP | _OTHER_STOP) != 0) | ((kind & _LINE != 0) & (behind & _SPACE != 0))
    signs, kind, behind = signs[may_end], kind[may_end], behind[may_end]  # [S], as are the next

    before, closed = _kinds_of(codes[signs - 1]), behind & _CLOSES != 0
    gap, then = _kinds_of(codes[signs + 1 + closed]), _kinds_of(codes[signs + 2 + closed])
    is_stop, is_space = kind == _STOP, gap & _SPACE != 0
    is_end = is_stop & (before & (_STOP | _OTHER_STOP) == 0) & is_space & (then & _BEGINS != 0)
    is_none = is_stop & ((gap == 0) | (is_space & (then == 0)))

    found, end = [], 0
    for sign in signs[~(is_end | is_none)].tolist():
        if sign >= end and (match := _END.match(text, sign)):
            end = match.end()
            found.append((sign, end))
    others = np.array(found, np.int64).reshape(-1, 2)
    ends = np.append((signs + 2 + closed)[is_end], others[:, 1])
    signs = np.append(signs[is_end], others[:, 0])
    order = np.argsort(signs)
    return signs[order], ends[order]


def _are_words(codes: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Whether the letters before each sign are those of a word that is no abbreviation: bool [S].

    False may mean that more than the last three letters must be looked at.
    """
    letters = (codes[signs[:, None] - [3, 2, 1]] | 0x20) - ord("a")  # [S, 3]; lower case; no letter: 26 or more
    return (letters < 26).all(axis=1) & ~_abbreviations()[tuple((letters % 26).T)]


@functools.cache
def _abbreviations() -> np.ndarray:
    """Which three letters abbreviations end in: bool [26, 26, 26]."""
    found = np.zeros((26, 26, 26), np.bool_)
    for word in _TITLES | _BEFORE_NUMBERS:
        if len(word) >= 3:
            found[tuple(ord(letter) - ord("a") for letter in word[-3:])] = True
    return found


# === Abbreviations ===


def _goes_on(text: str, begin: int, stop: int, end: int) -> bool:
    """Whether the full stop at `stop` is that of an abbreviation, an initial or a number of a list.

    The sentence begins at `begin`; another would at `end`.
    """
    before = text[max(begin, stop - _LONGEST_WORD) : stop].rsplit(None, 1)
    word = before[-1].lstrip("\"'“‘([") if before else ""
    if not word or len(word) > _LONGEST_ABBREVIATION or text[stop + 1] not in " \n\t\r":
        return False
    if len(word) == 1 and word.isalpha():
        return word != "I" and word.isascii()
    if "." in word:
        return all(len(letter) == 1 and letter.isalpha() for letter in word.split("."))
    word = word.lower()
    if word in _TITLES or (word in _BEFORE_NUMBERS and text[end].isdigit()):
        return True
    return word.isdigit() and not text[begin:stop].strip(" \n\t\r\"'“‘([" + word)


def _cut(sentence: str) -> list[str]:
    parts, begin = [], 0
    while len(sentence) - begin > _LONGEST:
        end = max(sentence.rfind(sign, begin + 1, begin + _LONGEST) for sign in " \n。，、；")
        end = end + 1 if end > 0 else begin + _LONGEST
        parts.append(sentence[begin:end].strip())
        begin = end
    return [*parts, sentence[begin:].strip()]
