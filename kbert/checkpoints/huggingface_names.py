"""kbert's tensors by the names that Hugging Face's BERT models give them: the name table, and writing by it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kbert.checkpoints.checkpoint import Rule, expand, write_tensor
from kbert.config import BertConfig


def _dense(name: str, foreign: str) -> tuple[Rule, ...]:
    """PyTorch lays a dense kernel out as [outputs, inputs]."""
    return (
        Rule(f"{name}/kernel", (f"{foreign}.weight",), transpose=True),
        Rule(f"{name}/bias", (f"{foreign}.bias",)),
    )


def _layer_norm(name: str, foreign: str) -> tuple[Rule, ...]:
    return (Rule(f"{name}/gamma", (f"{foreign}.weight",)), Rule(f"{name}/beta", (f"{foreign}.bias",)))


def _attention(name: str, foreign: str) -> tuple[Rule, ...]:
    parts = [f"{foreign}.self.{part}" for part in ("query", "key", "value")]
    return (
        Rule(f"{name}/query_key_value/kernel", tuple(f"{part}.weight" for part in parts), transpose=True),
        Rule(f"{name}/query_key_value/bias", tuple(f"{part}.bias" for part in parts)),
        *_dense(f"{name}/output", f"{foreign}.output.dense"),
        *_layer_norm(f"{name}/layer_norm", f"{foreign}.output.LayerNorm"),
    )


def _bilstm(name: str, foreign: str) -> tuple[Rule, ...]:
    """As torch.nn.LSTM names its weights; the gates' order is the same. Its second bias is zero and left out."""
    return tuple(
        Rule(f"{name}/{direction}/lstm_cell/{ours}", (f"{foreign}.{theirs}_l0{suffix}",), transpose=ours != "bias")
        for direction, suffix in (("forward", ""), ("backward", "_reverse"))
        for ours, theirs in (("kernel", "weight_ih"), ("recurrent_kernel", "weight_hh"), ("bias", "bias_ih"))
    )


# One table for every encoder and head: each kbert name has one row. transformers knows no projection, BiLSTM or CRF.
ENCODER_RULES = (
    Rule("embeddings/word/embeddings", ("embeddings.word_embeddings.weight",)),
    Rule("embeddings/position/embeddings", ("embeddings.position_embeddings.weight",)),
    Rule("embeddings/segment/embeddings", ("embeddings.token_type_embeddings.weight",)),
    *_layer_norm("embeddings/layer_norm", "embeddings.LayerNorm"),
    *_dense("embeddings/projection", "embeddings_project"),
    *_attention("layer_{i}/attention", "encoder.layer.{i}.attention"),
    *_dense("layer_{i}/feedforward/intermediate", "encoder.layer.{i}.intermediate.dense"),
    *_dense("layer_{i}/feedforward/output", "encoder.layer.{i}.output.dense"),
    *_layer_norm("layer_{i}/feedforward/layer_norm", "encoder.layer.{i}.output.LayerNorm"),
    *_attention("attention", "encoder.attention"),
    *_bilstm("bilstm", "encoder.bilstm"),
    *_dense("pooler", "pooler.dense"),
)
HEAD_RULES = (
    *_dense("classifier", "classifier"),
    *_bilstm("tagger_bilstm", "bilstm"),
    *(Rule(f"crf/{name}", (f"crf.{name}",)) for name in ("transitions", "start", "end")),
    *_dense("span", "qa_outputs"),
    *_dense("masked_lm_dense", "cls.predictions.transform.dense"),
    *_layer_norm("masked_lm_layer_norm", "cls.predictions.transform.LayerNorm"),
    # transformers ties the decoder's weight to the word embeddings, and its bias to this one: it stores neither.
    Rule("masked_lm_bias", ("cls.predictions.bias",)),
    *_dense("next_sentence", "cls.seq_relationship"),
)
OPTIONAL = ("pooler/", "next_sentence/")
"""Beginnings of what a checkpoint may lack: tasks on single tokens carry no pooler, and few masked LMs learn pairs."""

_OF_TOKENS = ("BertForMaskedLM", "BertForTokenClassification", "BertForQuestionAnswering")


def foreign_tensors(tensors: Mapping[str, np.ndarray], config: BertConfig, architecture: str) -> dict[str, np.ndarray]:
    """kbert's tensors as a model of transformers stores them.

    Args:
        tensors: name -> array; names that the table lacks are left out.
        config: the encoder's.
        architecture: the class of transformers, like "BertForTokenClassification". It settles whether the encoder's
            names begin with "bert.", and whether the pooler belongs to it.
    """
    prefix = "" if architecture == "BertModel" else "bert."
    left_out = OPTIONAL if architecture in _OF_TOKENS else ()
    foreign: dict[str, np.ndarray] = {}
    for rules, before in ((ENCODER_RULES, prefix), (HEAD_RULES, "")):
        for rule in expand(rules, config.num_layers):
            if rule.name in tensors and not rule.name.startswith(left_out):
                foreign |= {before + name: part for name, part in write_tensor(rule, tensors[rule.name]).items()}
    return foreign
