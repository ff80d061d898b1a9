"""What a report says of a file beside a model."""

from __future__ import annotations

import numpy as np
import pytest
from mobile.cases import TEXTS

import kbert
from kbert.mobile.export import mobile_file
from kbert.mobile.report import report

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite:UserWarning", "ignore:.*Interpreter:UserWarning")


def test_a_report_counts_what_differs(model):
    """Beside another model's file, labels and scores differ as the two models do."""
    other = kbert.BertTextClassifier(model.encoder, model.tokenizer, model.task)
    other.head.dense.kernel.assign(-model.head.dense.kernel)
    expected, found = (m.predict(TEXTS) for m in (model, other))
    content = mobile_file(other)
    result = report(model, TEXTS, expected["label"].tolist(), "ids", content, content)
    assert result["model_metrics"]["accuracy"] == 1
    assert result["same_answers"] == (expected["label"] == found["label"]).sum() < len(TEXTS)
    apart = max(np.abs(expected[name] - found[name]).max() for name in ("score", "probabilities"))
    assert result["largest_difference"] == pytest.approx(apart, abs=1e-5)
