"""Useful operations: by hand, and against the products that the encoder computes."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import pytest
from bench.at_once import start_here

from kbert.bench import flops
from kbert.bench.flops import compare_flops, multiply, product_flops, product_shapes, useful_flops
from kbert.bench.models import classifier_folder
from kbert.modeling.encoder import BertEncoder


def test_by_hand(tiny_config):
    """Two layers, D = 12, I = 37, rows of 3 and 5 tokens."""
    dense = 8 * (3 + 5) * 144 + 4 * (3 + 5) * 12 * 37
    attention = 4 * (9 + 25) * 12
    pooler = 2 * 2 * 144
    assert useful_flops(tiny_config, [3, 5]) == 2 * (dense + attention) + pooler == 50_688
    keys_and_values, query, output = 4 * (3 + 5) * 144, 2 * 2 * 144, 2 * 2 * 144
    last = keys_and_values + query + output + 4 * (3 + 5) * 12 + 2 * 4 * 12 * 37
    assert useful_flops(tiny_config, [3, 5], first_token_only=True) == dense + attention + last + pooler


@pytest.mark.parametrize("first_token_only", [False, True])
@pytest.mark.parametrize("embedding_dim", [None, 5])
def test_they_are_what_the_encoder_multiplies(tiny_config, monkeypatch, first_token_only, embedding_dim):
    """Of rows without padding, which is computed in attention alone and not counted."""
    config = dataclasses.replace(tiny_config, embedding_dim=embedding_dim)
    encoder = BertEncoder(config)
    counted = []
    matmul = keras.src.backend.numpy.matmul

    def count(left, right):
        product = matmul(left, right)
        counted.append(2 * math.prod(product.shape) * left.shape[-1])
        return product

    monkeypatch.setattr(keras.src.backend.numpy, "matmul", count)
    ids = np.ones((3, 7), "int32")
    encoder({"token_ids": ids, "segment_ids": ids, "padding_mask": ids}, first_token_only=first_token_only)
    assert sum(counted) == useful_flops(config, [7, 7, 7], first_token_only)


def test_the_products_are_those_of_a_layer(tiny_config):
    shapes = product_shapes(tiny_config, rows=5)
    attention = 4 * 5**2 * 12
    pooler = 2 * 144
    assert 2 * (product_flops(shapes) + attention) + pooler == useful_flops(tiny_config, [5])
    assert multiply(shapes, repeats=2, threads=1)().shape == (5, 12)


def test_rates_are_operations_by_seconds(tiny_folder, monkeypatch):
    monkeypatch.setattr(flops, "start", start_here)
    amounts = {}

    def keep(contenders, amount, unit, rounds, description):
        for contender in contenders:
            contender.run()
            amounts[contender.name] = contender.amount
        return contenders

    monkeypatch.setattr(flops, "compare", keep)
    texts = ["good film", "the plot was not very dull"]  # 4 and 8 tokens
    with classifier_folder(str(tiny_folder)) as folder:
        compare_flops(texts, folder, batch_size=2, rounds=1, threads=1)
        config = flops_config(folder)
    forward = useful_flops(config, [4, 8], first_token_only=True) / 1e9
    assert amounts["kbert predict"] == forward
    assert amounts["kbert fit"] == 3 * forward
    assert amounts["matrix products"] == pytest.approx(forward, rel=0.5)


def flops_config(folder):
    from kbert.checkpoints import presets

    return presets.load(folder, weights=False).config
