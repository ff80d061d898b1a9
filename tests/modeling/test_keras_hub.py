"""A preset that keras-hub saved gives the hidden states of its BertBackbone."""

from __future__ import annotations

import numpy as np
import pytest

import kbert

# Keras 3.15 saves weights in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def test_hidden_states_equal_its_backbone(tmp_path, tiny_vocabulary):
    import keras_hub

    backbone = keras_hub.models.BertBackbone(len(tiny_vocabulary), 2, 3, 12, 17, max_sequence_length=11)
    random = np.random.default_rng(1)
    backbone.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in backbone.weights])
    backbone.save_to_preset(str(tmp_path))
    keras_hub.models.BertTokenizer(list(tiny_vocabulary), lowercase=True).save_to_preset(str(tmp_path))
    mask = (np.arange(9) < np.array([9, 1, 4, 6, 2, 8, 3])[:, None]).astype("int32")
    inputs = {
        "token_ids": random.integers(0, len(tiny_vocabulary), (7, 9)).astype("int32") * mask,
        "segment_ids": random.integers(0, 2, (7, 9)).astype("int32") * mask,
        "padding_mask": mask,
    }
    expected = backbone(inputs)
    outputs = kbert.BertEncoder.from_preset(str(tmp_path))(inputs)
    real = mask.astype(bool)
    np.testing.assert_allclose(
        outputs["sequence_output"].numpy()[real], expected["sequence_output"].numpy()[real], atol=1e-5
    )
    np.testing.assert_allclose(outputs["pooled_output"], expected["pooled_output"], atol=1e-5)
