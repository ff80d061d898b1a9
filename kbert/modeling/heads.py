"""What stands on the encoder: vectors to logits."""

from __future__ import annotations

import keras
from keras import ops

from kbert.config import BertConfig
from kbert.modeling.layers import dense


class ClassificationHead(keras.layers.Layer):
    """Dropout and a dense layer on the pooled output: [B, D] -> logits float32 [B, C]."""

    def __init__(self, config: BertConfig, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = config.hidden_dim
        self.dropout = keras.layers.Dropout(config.dropout_rate, name="dropout")
        self.dense = dense(num_classes, config, "dense")

    def build(self, input_shape=None):
        self.dense.build((None, self.hidden_dim))

    def call(self, pooled_output):
        # Mixed precision ends here: loss and probabilities want float32.
        return ops.cast(self.dense(self.dropout(pooled_output)), "float32")
