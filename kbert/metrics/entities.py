"""Metrics of entities: an entity is right if its start, its end and its label are.

Entities come as spans, or as rows of tags, of which there are two readings; both are those of seqeval, so that scores
can be compared with published ones. The default reading takes I- or E- after anything else for a beginning, as the
CoNLL-2000 script does (where the script and seqeval differ, as on tags of one letter, this follows seqeval). The
strict reading takes only rows of tags that a scheme allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kbert.errors import InputError
from kbert.metrics.rates import check_rows, per_class, rates

Span = tuple[int, int, str]
"""start, end (exclusive), label"""

# === Spans ===


def entity_metrics(spans_true: Sequence[Iterable[Span]], spans_pred: Sequence[Iterable[Span]]) -> dict[str, float]:
    """Precision, recall and F1 of the entities of some texts.

    Args:
        spans_true: the right entities of each text, tuples of start, end and label; the same one twice counts once.
        spans_pred: the predicted ones.

    Returns:
        `precision`, `recall` and `f1` over all entities; `macro_precision`, `macro_recall` and `macro_f1`, the means
        over the labels that occur. 0 for what is not defined.

    Raises:
        InputError: there are no texts, or not equally many.
    """
    labels, *counts = _counts(spans_true, spans_pred)
    micro = rates(*(count.sum() for count in counts))
    macro = {f"macro_{name}": values.mean() if labels else 0.0 for name, values in rates(*counts).items()}
    return {name: float(value) for name, value in (micro | macro).items()}


def entity_report(spans_true: Sequence[Iterable[Span]], spans_pred: Sequence[Iterable[Span]]) -> dict[str, Any]:
    """`per_class`: precision, recall, f1 and support of each label; arguments and errors as for `entity_metrics`."""
    return {"per_class": per_class(*_counts(spans_true, spans_pred))}


def _counts(
    spans_true: Sequence[Iterable[Span]], spans_pred: Sequence[Iterable[Span]]
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Labels, sorted, and of each the number of correct, of predicted and of actual entities."""
    check_rows("rows of entities", spans_true, spans_pred)
    true, predicted = ({(i, *span) for i, row in enumerate(rows) for span in row} for rows in (spans_true, spans_pred))
    labels = sorted({label for *_, label in true | predicted})
    places = {label: i for i, label in enumerate(labels)}
    correct, given, actual = (
        np.bincount([places[label] for *_, label in spans], minlength=len(labels))
        for spans in (true & predicted, predicted, true)
    )
    return labels, correct, given, actual


# === Tags ===


def tag_metrics(
    tags_true: Sequence[Sequence[str]], tags_pred: Sequence[Sequence[str]], scheme: str | None = None
) -> dict[str, float]:
    """As `entity_metrics`, from a row of tags per text.

    Args:
        tags_true: the right tags of each text.
        tags_pred: the predicted ones, as many in each row.
        scheme: None for the default reading, else the scheme of the strict one: "IOB1", "IOB2", "IOE2", "IOBES" or
            "BILOU".

    Raises:
        InputError: as for `entity_metrics` and `entities_of_tags`, or rows of different lengths.
    """
    for i, (true, predicted) in enumerate(zip(tags_true, tags_pred, strict=False)):
        if len(true) != len(predicted):
            raise InputError(
                f"row {i} of tags must be equally long. Received: {len(true)} true, {len(predicted)} predicted"
            )
    return entity_metrics(
        [entities_of_tags(tags, scheme) for tags in tags_true], [entities_of_tags(tags, scheme) for tags in tags_pred]
    )


def entities_of_tags(tags: Sequence[str], scheme: str | None = None) -> list[Span]:
    """The entities of a row of tags such as "B-PER" and "O"; a tag of one letter has the label "_".

    Args:
        tags: one per token, the prefix first.
        scheme: as in `tag_metrics`.

    Returns:
        Spans in tokens, in their order.

    Raises:
        InputError: an empty tag, an unknown scheme, or a prefix that the scheme does not have.
    """
    if not all(tags):
        raise InputError(f"a tag must not be empty. Received: {list(tags)}")
    if scheme is None:
        return _default_entities(tags)
    if scheme not in SCHEMES:
        raise InputError(f"scheme must be None or one of {', '.join(SCHEMES)}. Received: {scheme!r}")
    return _strict_entities(tags, scheme)


def _default_entities(tags: Sequence[str]) -> list[Span]:
    found = []
    begin, before, label_before = 0, "O", ""
    for i, tag in enumerate([*tags, "O"]):
        prefix, label = tag[0], tag[1:].split("-", 1)[-1] or "_"
        changes = label != label_before
        if before in "ES" or (before in "BI" and prefix in "BSO") or (before not in "O." and changes):
            found.append((begin, i, label_before))
        if prefix in "BS" or (before in "ESO" and prefix in "EI") or (prefix not in "O." and changes):
            begin = i
        before, label_before = prefix, label
    return found


@dataclass(frozen=True)
class Scheme:
    """Which neighbours begin, continue and end an entity.

    A rule is three characters: the prefixes of a tag and of the next (`.` is any), and `=` where both must have the
    same label, `!` where they must not, `.` where it does not matter.
    """

    prefixes: str
    begins: str
    continues: str
    ends: str

    def matches(self, rules: str, tag: str, following: str) -> bool:
        """Whether one of the rules holds for two neighbours."""
        same = "=" if _strict_label(tag) == _strict_label(following) else "!"
        return any(
            rule[0] in (".", tag[0]) and rule[1] in (".", following[0]) and rule[2] in (".", same)
            for rule in rules.split()
        )


SCHEMES = {
    "IOB1": Scheme("IOB", begins="OI. II! BI. IB= BB=", continues="BI= II=", ends="II! IO. IB. BO. BI! BB="),
    "IOB2": Scheme("IOB", begins=".B.", continues="BI= II=", ends="IO. II! IB. BO. BI! BB."),
    "IOE2": Scheme("IOE", begins="OI. OE. EI. EE. II! IE!", continues="IE= II=", ends="E.."),
    "IOBES": Scheme("IOBES", begins=".B. .S.", continues="BI= BE= II= IE=", ends="S.. E.."),
    "BILOU": Scheme("BILOU", begins=".B. .U.", continues="BI= BL= II= IL=", ends="U.. L.."),
}


def _strict_entities(tags: Sequence[str], name: str) -> list[Span]:
    scheme = SCHEMES[name]
    for tag in tags:
        if tag[0] not in scheme.prefixes:
            raise InputError(f"tag {tag!r} does not belong to {name}, whose prefixes are {', '.join(scheme.prefixes)}")
    row = ["O", *tags, "O"]  # nothing begins or continues with the last one
    found = []
    begin = 1
    while begin < len(row):
        end = begin + 1
        if scheme.matches(scheme.begins, row[begin - 1], row[begin]):
            while scheme.matches(scheme.continues, row[end - 1], row[end]):
                end += 1
            if scheme.matches(scheme.ends, row[end - 1], row[end]):
                found.append((begin - 1, end - 1, _strict_label(row[begin])))
        begin = end
    return found


def _strict_label(tag: str) -> str:
    return tag[1:].strip("-") or "_"
