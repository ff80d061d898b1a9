"""The metrics against scikit-learn, scipy and seqeval, on random answers and on real rows of tags."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kbert.metrics.classification import class_report, classification_metrics, multi_label_metrics, multi_label_report
from kbert.metrics.correlation import correlation_metrics
from kbert.metrics.entities import entities_of_tags, entity_report, tag_metrics

pytestmark = pytest.mark.parity
NAMES = list("abcdefg")


def assert_rates(report, expected):
    """`expected`: precision, recall, F1 and support, each of all classes."""
    rows = np.array([list(row.values()) for row in report["per_class"].values()]).reshape(-1, 4)
    np.testing.assert_allclose(rows.T, expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:A single label was found")
def test_classification_as_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    rng = random.Random(0)
    for _ in range(300):
        names = NAMES[: rng.randint(2, 7)]
        occurring = rng.sample(names, rng.randint(1, len(names)))
        examples = rng.choice([1, 2, 9, 70])
        true, predicted = (rng.choices(occurring, k=examples) for _ in range(2))
        got = classification_metrics(true, predicted, names)
        for average in ("macro", "micro"):
            expected = sk.f1_score(true, predicted, average=average, zero_division=0)
            assert got[f"{average}_f1"] == pytest.approx(expected, abs=1e-12)
        assert got["accuracy"] == sk.accuracy_score(true, predicted)
        assert got["matthews_correlation"] == pytest.approx(sk.matthews_corrcoef(true, predicted), abs=1e-12)
        report = class_report(true, predicted, names)
        assert_rates(report, sk.precision_recall_fscore_support(true, predicted, labels=names, zero_division=0))
        assert report["confusion_matrix"] == sk.confusion_matrix(true, predicted, labels=names).tolist()


def test_several_labels_as_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape = (rng.choice([1, 2, 9, 70]), rng.integers(2, 8))
        true, predicted = (rng.random(shape) < rng.choice([0, 0.1, 0.5, 1]) for _ in range(2))
        names = NAMES[: shape[1]]
        labels = [[[name for name, has in zip(names, row, strict=True) if has] for row in m] for m in (true, predicted)]
        got = multi_label_metrics(*labels, names)
        for average in ("macro", "micro"):
            expected = sk.f1_score(true, predicted, average=average, zero_division=0)
            assert got[f"{average}_f1"] == pytest.approx(expected, abs=1e-12)
        assert got["exact_match"] == sk.accuracy_score(true, predicted)
        expected = sk.precision_recall_fscore_support(true, predicted, zero_division=0)
        assert_rates(multi_label_report(*labels, names), expected)


def test_correlation_as_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(1000):
        count = rng.choice([2, 3, 10, 200])
        true = rng.normal(size=count) * 10.0 ** rng.integers(-5, 6)
        predicted = rng.normal() * true + rng.normal(size=count) * rng.choice([0, 1e-3, 1])
        if rng.random() < 0.5:
            true, predicted = np.round(true), np.round(predicted)
        got = correlation_metrics(true, predicted)
        if min(np.ptp(true), np.ptp(predicted)) == 0:
            assert got == {"pearson": 0.0, "spearman": 0.0}
            continue
        compared += 1
        assert got["pearson"] == pytest.approx(stats.pearsonr(true, predicted).statistic, abs=1e-12)
        assert got["spearman"] == pytest.approx(stats.spearmanr(true, predicted).statistic, abs=1e-12)
    assert compared > 700


# === Tags ===

SCHEMES = {None: "OBIES", "IOB1": "OBI", "IOB2": "OBI", "IOE2": "OIE", "IOBES": "OBIES", "BILOU": "OBILU"}


def assert_tags_as_seqeval(true, predicted, scheme):
    got = tag_metrics(true, predicted, scheme)
    for prefix, average in (("", "micro"), ("macro_", "macro")):
        expected = seqeval_scores(true, predicted, scheme, average)[:3]
        for name, value in zip(("precision", "recall", "f1"), expected, strict=True):
            assert got[prefix + name] == pytest.approx(value, abs=1e-12)
    spans = [[entities_of_tags(row, scheme) for row in side] for side in (true, predicted)]
    assert_rates(entity_report(*spans), seqeval_scores(true, predicted, scheme, None))


def seqeval_scores(true, predicted, scheme, average):
    from seqeval import scheme as schemes
    from seqeval.metrics import sequence_labeling, v1

    keywords = {"average": average, "zero_division": 0}
    if scheme is None:
        return sequence_labeling.precision_recall_fscore_support(true, predicted, **keywords)
    return v1.precision_recall_fscore_support(true, predicted, scheme=getattr(schemes, scheme), **keywords)


def entities_as_seqeval(row, scheme):
    if scheme:
        from seqeval import scheme as schemes

        found = schemes.Tokens(row, getattr(schemes, scheme)).entities
        return [(entity.start, entity.end, entity.tag) for entity in found]
    from seqeval.metrics.sequence_labeling import get_entities

    return [(start, end + 1, label) for label, start, end in get_entities(row)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_random_tags_as_seqeval(scheme):
    pytest.importorskip("seqeval")
    rng = random.Random(0)
    labels = ["", "-x", "-y", "-x-y"]
    kinds = ["O", *(prefix + label for prefix in SCHEMES[scheme] if prefix != "O" for label in labels)]
    rows = [rng.choices(kinds, k=rng.randrange(12)) for _ in range(3000)]
    for row in rows:
        assert entities_of_tags(row, scheme) == entities_as_seqeval(row, scheme), row
    predicted = [[tag if rng.random() < 0.7 else rng.choice(kinds) for tag in row] for row in rows]
    for start in range(0, 3000, 100):
        assert_tags_as_seqeval(rows[start : start + 100], predicted[start : start + 100], scheme)


def rows_of_conll(path):
    blocks = path.read_text(encoding="utf8").split("\n\n")
    rows = [[line.split()[-1] for line in block.splitlines() if line.strip()] for block in blocks]
    return [row for row in rows if row]


@pytest.mark.parametrize("scheme", [None, "IOB1", "IOB2"])
def test_real_tags_as_seqeval(scheme, real_data):
    """CoNLL-2003's own tags (IOB1), some of them exchanged."""
    pytest.importorskip("seqeval")
    rng = random.Random(1)
    true = rows_of_conll(real_data("conll2003/eng.testb"))
    kinds = sorted({tag for row in true for tag in row})
    predicted = [[tag if rng.random() < 0.9 else rng.choice(kinds) for tag in row] for row in true]
    for row in true + predicted:
        assert entities_of_tags(row, scheme) == entities_as_seqeval(row, scheme)
    assert_tags_as_seqeval(true, predicted, scheme)
    if scheme is None:
        assert len([span for row in true for span in entities_of_tags(row)]) == 5648  # as published
