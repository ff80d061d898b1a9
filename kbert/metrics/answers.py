"""Exact match and F1 of answers, as the evaluations of SQuAD (Rajpurkar et al. 2016, 2018) and CMRC 2018 define them.

Both take the best over all answers that count as right. They differ in what they compare: SQuAD words, without case,
punctuation and articles; CMRC 2018 (Cui et al. 2019) Chinese characters and other words, without case and punctuation,
of which the longest stretch in common counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = frozenset(string.punctuation)
_CHINESE = re.compile(r"[\u4e00-\u9fa5]")
_WORD = re.compile(r"\w+(?:[.,']\w+)*|[^\w\s]")
# What CMRC 2018 leaves out, character by character ("……" of its list is two, and so never left out).
_CHINESE_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")


def answer_metrics(found: Sequence[str], expected: Sequence[Sequence[str]]) -> dict[str, float]:
    """`exact_match` and `f1`, in [0, 1]; by CMRC 2018 where most of the right answers hold Chinese characters.

    Args:
        found: an answer to each question, "" for none.
        expected: the right answers to each question; no answers, where there is none.
    """
    answers = [answer for row in expected for answer in row]
    is_chinese = 2 * sum(bool(_CHINESE.search(answer)) for answer in answers) > len(answers)
    exact, overlap = (cmrc_exact, cmrc_f1) if is_chinese else (squad_exact, squad_f1)
    return {"exact_match": _mean(exact, found, expected), "f1": _mean(overlap, found, expected)}


def squad_exact(found: str, expected: str) -> float:
    """1 where both are the same but for case, punctuation, articles and white space."""
    return float(_words(found) == _words(expected))


def squad_f1(found: str, expected: str) -> float:
    """The F1 of the words in common, each as often as it stands in both."""
    ours, theirs = _words(found), _words(expected)
    if not ours or not theirs:
        return float(ours == theirs)
    return _f1((Counter(ours) & Counter(theirs)).total(), len(ours), len(theirs))


def cmrc_exact(found: str, expected: str) -> float:
    """1 where both are the same but for case, punctuation and white space at the edges."""
    return float(_without_punctuation(found) == _without_punctuation(expected))


def cmrc_f1(found: str, expected: str) -> float:
    """The F1 of the longest stretch of characters and words in common."""
    ours, theirs = _mixed(found), _mixed(expected)
    if not ours or not theirs:
        return float(ours == theirs)
    match = SequenceMatcher(None, ours, theirs, autojunk=False).find_longest_match()
    return _f1(match.size, len(ours), len(theirs))


def _mean(metric: Callable[[str, str], float], found: Sequence[str], expected: Sequence[Sequence[str]]) -> float:
    best = [
        max(metric(ours, answer) for answer in theirs or [""]) for ours, theirs in zip(found, expected, strict=True)
    ]
    return sum(best) / len(best) if best else 0.0


def _f1(common: int, found: int, expected: int) -> float:
    if common == 0:
        return 0.0
    precision, recall = common / found, common / expected
    return 2 * precision * recall / (precision + recall)


def _words(text: str) -> list[str]:
    bare = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return _ARTICLES.sub(" ", bare).split()


def _without_punctuation(text: str) -> str:
    return "".join(character for character in text.lower().strip() if character not in _CHINESE_PUNCTUATION)


def _mixed(text: str) -> list[str]:
    """Chinese characters one by one, and what stands between them word by word.

    The evaluation's own words are NLTK's, which differ from these for some abbreviations and contractions.
    """
    units: list[str] = []
    word = ""
    for character in text.lower().strip():
        if character in _CHINESE_PUNCTUATION:
            continue
        if _CHINESE.match(character):
            units += [*_WORD.findall(word), character]
            word = ""
        else:
            word += character
    return units + _WORD.findall(word)
