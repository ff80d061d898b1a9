"""Untrained models of the tasks that read more than labels."""

from __future__ import annotations

import keras
import pytest
from tasks.examples import TAGS

import kbert


@pytest.fixture
def tagger(steady_folder):
    keras.utils.set_random_seed(1)
    return kbert.BertTokenClassifier.from_preset(str(steady_folder), TAGS, max_length=16)


@pytest.fixture
def answerer(steady_folder):
    keras.utils.set_random_seed(1)
    return kbert.BertQuestionAnswerer.from_preset(str(steady_folder), max_length=16)


@pytest.fixture
def embedder(steady_folder):
    keras.utils.set_random_seed(1)
    return kbert.BertTextEmbedder.from_preset(str(steady_folder), max_length=16)
