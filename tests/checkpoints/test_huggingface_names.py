"""The name table: every weight of every encoder and head has one row, and comes back as it was."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import safetensors.numpy

from kbert.checkpoints import huggingface
from kbert.checkpoints.checkpoint import (
    Checkpoint,
    classifier_shapes,
    expand,
    masked_lm_shapes,
    next_sentence_shapes,
    read_tensors,
    span_shapes,
    tagger_shapes,
    tensor_shapes,
)
from kbert.checkpoints.huggingface_names import ENCODER_RULES, HEAD_RULES, foreign_tensors
from kbert.config import TokenizerConfig
from kbert.modeling.crf import CRF
from kbert.modeling.encoder import make_encoder, named_weights
from kbert.modeling.heads import ClassificationHead, MaskedLMHead, NextSentenceHead, SpanHead, TokenHead

# What the encoder is made of.
CHANGES = {
    "bert": {},
    "factorised": {"embedding_dim": 5},
    "sinusoidal": {"position_embedding": "sinusoidal"},
    "light": {"encoder_type": "bilstm", "num_layers": 1},
}


@pytest.fixture(params=CHANGES)
def config(request, tiny_config):
    return dataclasses.replace(tiny_config, **CHANGES[request.param])


def random_tensors(shapes):
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def weights_of(head):
    head.build()
    return {name: tuple(weight.shape) for name, weight in named_weights(head).items()}


def test_shapes_are_those_of_the_keras_weights(config):
    encoder = {name: tuple(weight.shape) for name, weight in named_weights(make_encoder(config)).items()}
    assert encoder == tensor_shapes(config)
    assert encoder.keys() - tensor_shapes(config, pooler=False).keys() == {"pooler/kernel", "pooler/bias"}
    assert weights_of(ClassificationHead(config, 4)) == classifier_shapes(config, 4)
    assert weights_of(TokenHead(config, 4)) == tagger_shapes(config, 4)
    assert weights_of(SpanHead(config)) == span_shapes(config)
    assert weights_of(MaskedLMHead(config)) == masked_lm_shapes(config)
    assert weights_of(NextSentenceHead(config)) == next_sentence_shapes(config)
    crf = {f"crf/{name}": shape for name, shape in weights_of(CRF(4, name="crf")).items()}
    bilstm = weights_of(TokenHead(config, 4, bilstm_units=3))
    assert bilstm | crf == tagger_shapes(config, 4, crf=True, bilstm_units=3)


def test_every_weight_of_every_head_comes_back(config):
    heads = [
        classifier_shapes(config, 4),
        tagger_shapes(config, 4, crf=True, bilstm_units=3),
        span_shapes(config),
        masked_lm_shapes(config),
        next_sentence_shapes(config),
    ]
    for head in heads:
        shapes = tensor_shapes(config) | head
        tensors = random_tensors(shapes)
        foreign = foreign_tensors(tensors, config, "BertForSequenceClassification")
        bare = {name.removeprefix("bert."): tensor for name, tensor in foreign.items()}
        read = read_tensors(expand(ENCODER_RULES + HEAD_RULES, config.num_layers), bare, shapes, "here")
        assert read.keys() == tensors.keys()
        assert all(np.array_equal(read[name], tensor) for name, tensor in tensors.items())


def test_no_name_stands_twice():
    rules = list(expand(ENCODER_RULES + HEAD_RULES, 2))
    ours, theirs = [rule.name for rule in rules], [name for rule in rules for name in rule.foreign]
    assert len(set(ours)) == len(ours)
    assert len(set(theirs)) == len(theirs)


@pytest.mark.parametrize(
    ("architecture", "pooler"),
    [
        ("BertForSequenceClassification", True),
        ("BertForTokenClassification", False),
        ("BertForQuestionAnswering", False),
        ("BertForMaskedLM", False),
        ("BertForPreTraining", True),
    ],
)
def test_an_architecture_settles_prefix_and_pooler(tiny_config, architecture, pooler):
    tensors = random_tensors(tensor_shapes(tiny_config) | classifier_shapes(tiny_config, 4))
    names = foreign_tensors(tensors, tiny_config, architecture)
    assert ("bert.pooler.dense.weight" in names) is pooler
    assert {name for name in names if not name.startswith("bert.")} == {"classifier.weight", "classifier.bias"}


def test_a_bare_encoder_has_no_prefix(tiny_config):
    names = foreign_tensors(random_tensors(tensor_shapes(tiny_config)), tiny_config, "BertModel")
    assert "pooler.dense.weight" in names
    assert not any(re.match("bert", name) for name in names)


def test_the_encoder_of_a_folder_is_read_back(config, tiny_vocabulary, tmp_path):
    tensors = random_tensors(tensor_shapes(config))
    huggingface.write(tmp_path / "new", Checkpoint(config, TokenizerConfig(), tiny_vocabulary, tensors))
    read = huggingface.read(tmp_path / "new")
    assert read.config == config
    assert read.tensors.keys() == tensors.keys()
    assert all(np.array_equal(read.tensors[name], tensor) for name, tensor in tensors.items())
    known = config.encoder_type == "transformer" and config.position_embedding == "learned"
    keys = json.loads((tmp_path / "new" / "config.json").read_text(encoding="utf8"))
    assert keys["model_type"] == ("bert" if known and config.embedding_dim is None else "kbert")


def test_names_of_the_light_encoder(tiny_config, tiny_vocabulary, tmp_path):
    config = dataclasses.replace(tiny_config, **CHANGES["light"])
    tensors = random_tensors(tensor_shapes(config))
    huggingface.write(tmp_path / "new", Checkpoint(config, TokenizerConfig(), tiny_vocabulary, tensors))
    stored = safetensors.numpy.load_file(tmp_path / "new" / "model.safetensors")
    recurrent = stored["encoder.bilstm.weight_hh_l0_reverse"]
    np.testing.assert_array_equal(recurrent, tensors["bilstm/backward/lstm_cell/recurrent_kernel"].T)
    assert stored["encoder.attention.self.query.weight"].shape == (12, 12)
    assert stored["pooler.dense.weight"].shape == (24, 24)
