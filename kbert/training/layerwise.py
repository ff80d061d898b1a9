"""Layers that learn more slowly the lower they stand, or not at all.

Layers are given bottom to top: `[encoder.embeddings, *encoder.blocks]`. What stands above them (pooler, head) learns
at the full rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kbert.errors import InputError


def rate_factors(layers: Sequence[keras.layers.Layer], decay: float) -> dict[str, float]:
    """The `rate_factors` of `kbert.training.optimizers.adamw` for layer-wise learning rates.

    The top layer learns at `decay` times the rate of what stands above it, each other layer at `decay` times that of
    the next (Howard & Ruder 2018, section 3.2, take 1 / 2.6; for BERT 0.8 to 0.95 is usual).

    Raises:
        InputError: `decay` is not above 0, or above 1.
    """
    if not 0 < decay <= 1:
        raise InputError(f"layer-wise decay must be more than 0 and at most 1. Received: {decay}")
    return {variable.path: decay ** (len(layers) - i) for i, layer in enumerate(layers) for variable in layer.weights}


def freeze(layers: Sequence[keras.layers.Layer], count: int) -> None:
    """Keep the weights of the lowest `count` layers as they are; to be called before the model is compiled.

    No gradients are computed for them, which saves time and memory. Their dropout stays on in training.

    Raises:
        InputError: there are not so many layers.
    """
    if not 0 <= count <= len(layers):
        raise InputError(
            f"layers to freeze must be 0 to {len(layers)}, the embeddings and the blocks. Received: {count}"
        )
    for layer in layers[:count]:
        layer.trainable = False
