"""Metrics of answers cut out of a text: exact match and F1 as SQuAD and CMRC 2018 define them.

The scores are those of the published evaluation scripts, as fractions where the scripts print percent.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from kbert.errors import InputError
from kbert.metrics.rates import check_rows

Scores = tuple[float, float]
"""exact match, F1"""

# === SQuAD ===


def squad_metrics(answers_true: Sequence[Sequence[str]], answers_pred: Sequence[str]) -> dict[str, float]:
    """Metrics of SQuAD 1.1 (Rajpurkar et al. 2016), where every question has an answer.

    Case, punctuation, articles and repeated white space do not count. F1 is that of the words of an answer.

    Args:
        answers_true: the right answers of each question, one or more; the one that gives the highest score counts.
        answers_pred: the predicted answers.

    Returns:
        `exact_match` and `f1`, means over the questions.

    Raises:
        InputError: there are no questions, not equally many answers, or a question has no right answer.
    """
    return _means(_scores(answers_true, answers_pred, _squad_scores))


def squad2_metrics(answers_true: Sequence[Sequence[str]], answers_pred: Sequence[str]) -> dict[str, float]:
    """Metrics of SQuAD 2.0 (Rajpurkar et al. 2018), where a question may have no answer.

    Args:
        answers_true: as for `squad_metrics`, but none where the text does not answer the question.
        answers_pred: the predicted answers, "" for none.

    Returns:
        `exact_match` and `f1` over all questions; where there are such questions, `has_answer_exact_match` and
        `has_answer_f1` over those with an answer, `no_answer_exact_match` and `no_answer_f1` over those without.

    Raises:
        InputError: there are no questions, or not equally many answers.
    """
    return _metrics_with_none(answers_true, answers_pred, _squad_scores, _squad_words)


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def _squad_words(answer: str) -> list[str]:
    return _ARTICLE.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split()


def _squad_scores(true: str, predicted: str) -> Scores:
    left, right = _squad_words(true), _squad_words(predicted)
    return float(left == right), _f1((Counter(left) & Counter(right)).total(), len(left), len(right))


# === CMRC 2018 ===


def cmrc_metrics(answers_true: Sequence[Sequence[str]], answers_pred: Sequence[str]) -> dict[str, float]:
    """Metrics of CMRC 2018 (Cui et al. 2019), for Chinese; arguments and errors as for `squad_metrics`.

    Case and the punctuation that the published script lists do not count. The units of F1 are Chinese characters, and
    the words and marks between them; what true and predicted answer share is their longest common run of units. The
    script has NLTK find the words; here they are what NLTK 3.10 finds in one line, but for contractions such as
    "gonna".

    Returns:
        `exact_match` and `f1`, means over the questions.
    """
    return _means(_scores(answers_true, answers_pred, _cmrc_scores))


def cmrc2_metrics(answers_true: Sequence[Sequence[str]], answers_pred: Sequence[str]) -> dict[str, float]:
    """Metrics of CMRC 2018 where a question may have no answer, which it has as SQuAD 2.0 has it.

    SQuAD 2.0's rules on SQuAD 1.1 are applied to CMRC 2018's scores: a right answer of punctuation alone does not
    count as one, and no answer is right where there is none. Arguments, results and errors are `squad2_metrics`'.
    """
    return _metrics_with_none(answers_true, answers_pred, _cmrc_scores, lambda answer: _cmrc_units(_plain(answer)))


_CMRC_PUNCTUATION = str.maketrans("", "", r"-:_*^/\~`+=，。：？！“”；’《》·、「」（）－～『』")
_CHINESE = re.compile("([\u4e00-\u9fa5])")
# The Penn Treebank's conventions: what is cut off from a word, in this order.
_CUTS = [
    (re.compile("([«‘„])"), r" \1 "),
    (re.compile('^"'), " `` "),
    (re.compile(r"""(?<=[ (\[{<])(?:"|'')"""), " `` "),
    (re.compile(r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)"), "' "),
    (re.compile(r"([;@#$%&?!()\[\]{}<>»\u2012-\u2015]|\.{2,})"), r" \1 "),
    (re.compile(r",(\D|$)"), r" , \1"),
    (re.compile(r"""(?<=[^.])\.(?=[\])}>"'» ]*$)"""), " . "),
    (re.compile("\"|''"), " '' "),
    (re.compile(r"\s+|$"), " "),
    (re.compile(r"(?<=[^' ])('(?:s|m|d|ll|re|ve)?|n't)(?= )"), r" \1"),
]


def _plain(answer: str) -> str:
    return answer.lower().strip().translate(_CMRC_PUNCTUATION)


def _cmrc_units(answer: str) -> list[str]:
    """Chinese characters and words."""
    pieces = _CHINESE.split(answer)
    return [unit for piece in pieces for unit in ([piece] if _CHINESE.match(piece) else _words(piece))]


def _words(text: str) -> list[str]:
    for pattern, replacement in _CUTS:
        text = pattern.sub(replacement, text)
    return text.split()


def _cmrc_scores(true: str, predicted: str) -> Scores:
    true, predicted = _plain(true), _plain(predicted)
    left, right = _cmrc_units(true), _cmrc_units(predicted)
    return float(true == predicted), _f1(_longest_common_run(left, right), len(left), len(right))


def _longest_common_run(left: Sequence[str], right: Sequence[str]) -> int:
    """The length of the longest row of neighbours that stands in both."""
    longest, row = 0, [0] * (len(right) + 1)
    for unit in left:
        # row[j + 1]: the length of the common run that ends here and at right[j].
        row = [0, *(row[j] + 1 if unit == other else 0 for j, other in enumerate(right))]
        longest = max(longest, *row)
    return longest


# === Both ===


def _f1(common: int, true: int, predicted: int) -> float:
    return 2 * common / (true + predicted) if common else 0.0


def _scores(
    answers_true: Sequence[Sequence[str]], answers_pred: Sequence[str], scores_of: Callable[[str, str], Scores]
) -> list[Scores]:
    """The highest exact match and the highest F1 of each question."""
    check_rows("answers", answers_true, answers_pred)
    found = []
    for i, (answers, predicted) in enumerate(zip(answers_true, answers_pred, strict=True)):
        if not answers:
            raise InputError(f"question {i} has no right answer, which only metrics like SQuAD 2.0's allow")
        exact, f1 = zip(*(scores_of(true, predicted) for true in answers), strict=True)
        found.append((max(exact), max(f1)))
    return found


def _metrics_with_none(
    answers_true: Sequence[Sequence[str]],
    answers_pred: Sequence[str],
    scores_of: Callable[[str, str], Scores],
    units_of: Callable[[str], list[str]],
) -> dict[str, float]:
    """What SQuAD 2.0 makes of the scores of one answer, and of the units that these compare."""

    def scores_with_none(true: str, predicted: str) -> Scores:
        exact, f1 = scores_of(true, predicted)
        return exact, f1 if units_of(predicted) else exact

    # An answer of which nothing is left, such as "the", does not count as one.
    counted = [[answer for answer in answers if units_of(answer)] or [""] for answers in answers_true]
    scores = _scores(counted, answers_pred, scores_with_none)
    metrics = _means(scores)
    for prefix, has_answer in (("has_answer", True), ("no_answer", False)):
        part = [pair for pair, answers in zip(scores, answers_true, strict=True) if bool(answers) == has_answer]
        if part:
            metrics |= {f"{prefix}_{name}": value for name, value in _means(part).items()}
    return metrics


def _means(scores: Sequence[Scores]) -> dict[str, float]:
    exact, f1 = zip(*scores, strict=True)
    return {"exact_match": sum(exact) / len(exact), "f1": sum(f1) / len(f1)}
