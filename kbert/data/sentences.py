"""Texts to sentences by rules, for English and Chinese."""

from __future__ import annotations

import re

_CLOSING = "\"'”’)\\]»」』）】》〉"
_OPENING = "\"'“‘(\\[«「『（【《〈"
_CAPITAL = "A-ZÀ-ÖØ-ÞĀ\u0391-\u03a9\u0410-\u042fЁ0-9"
_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# The first character is a set alone, which `re` looks for far quicker than for a choice.
_END = re.compile(
    f"[.!?。！？；…\n](?:"
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
    sentences, begin = [], 0
    for match in _END.finditer(text):
        stop, end = match.span()
        if text[stop] != "." or not _goes_on(text, begin, stop, end):
            sentences.append(text[begin:end].strip())
            begin = end
    sentences.append(text[begin:].strip())
    if max(map(len, sentences)) > _LONGEST:
        sentences = [part for sentence in sentences for part in _cut(sentence)]
    return list(filter(None, sentences))


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
