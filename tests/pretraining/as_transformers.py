"""What transformers learnt from a batch against what kbert does; tests/golden/write_pretraining.py has the arrays."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from kbert.checkpoints.checkpoint import Checkpoint
from kbert.config import BertConfig, TokenizerConfig
from kbert.pretraining.model import PretrainingModel
from kbert.training.optimizers import adamw
from kbert.training.steps import Batch

# Of write_pretraining.py, which needs transformers.
CONFIG = BertConfig(97, 2, 3, 12, 37, max_sequence_length=29, dropout_rate=0.0, attention_dropout_rate=0.0)
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(92)))


def assert_learns_the_same(arrays, skip_padding: bool) -> None:
    """The loss to 1e-5; the gradient of every weight to 1e-4 of its largest entry."""
    weights = {name.removeprefix("weight:"): arrays[name] for name in arrays if name.startswith("weight:")}
    checkpoint = Checkpoint(CONFIG, TokenizerConfig(), VOCABULARY, weights)
    model = PretrainingModel.from_checkpoint(checkpoint, "nsp", skip_padding=skip_padding, mask_rate=0.5)
    model.compile(adamw(model.trainable_variables, 0.0))
    x = {name: tf.constant(arrays[name]) for name in ("token_ids", "segment_ids", "padding_mask", "guessed")}
    y = {name: tf.constant(arrays[name]) for name in ("tokens", "pair_label")}
    gradients = Batch(model, (x, y)).gradients()
    found = {name: float(value) for name, value in model.get_metrics_result().items()}
    assert found["loss"] == pytest.approx(float(arrays["loss"]), rel=1e-5)
    assert found["pair_loss"] == pytest.approx(float(arrays["pair_loss"]), rel=1e-5)
    names = {id(v): name for name, v in model.named_variables().items()}
    assert len(names) == len(gradients) == len(weights)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        name = names[id(variable)]
        expected = arrays[f"gradient:{name}"]
        assert np.abs(expected).max() > 1e-3, name
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=name)
