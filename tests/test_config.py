"""The published sizes."""

from __future__ import annotations

import math

import pytest

from kbert.checkpoints.checkpoint import tensor_shapes
from kbert.config import SIZES, BertConfig
from kbert.errors import InputError

PARAMETERS = {
    "tiny": 4_385_920,
    "mini": 11_170_560,
    "small": 28_763_648,
    "medium": 41_373_184,
    "base": 109_482_240,
    "large": 335_141_888,
}


@pytest.mark.parametrize("size", SIZES)
def test_sizes_have_the_published_number_of_parameters(size):
    """Those of Google's English checkpoints, vocabulary 30,522, without the heads of pretraining."""
    shapes = tensor_shapes(BertConfig.of_size(size, 30_522))
    assert sum(math.prod(shape) for shape in shapes.values()) == PARAMETERS[size]


def test_a_size_that_is_none():
    with pytest.raises(InputError, match="no size 'huge'; known are tiny, mini, small, medium, base, large"):
        BertConfig.of_size("huge", 99)
