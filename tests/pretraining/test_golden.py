"""A batch teaches what it teaches transformers' BertForPreTraining (tests/golden/write_pretraining.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pretraining.as_transformers import assert_learns_the_same


@pytest.mark.parametrize("skip_padding", [True, False], ids=["real tokens", "padded rows"])
def test_loss_and_the_gradient_of_every_weight(skip_padding):
    path = Path(__file__).parents[1] / "golden" / "pretraining.npz"
    assert_learns_the_same(dict(np.load(path)), skip_padding)
