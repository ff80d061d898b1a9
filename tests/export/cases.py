"""A tiny model of every task, and texts to ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import kbert
from kbert.config import FillMaskConfig
from kbert.export.ops import all_nodes

TEXTS = [
    "good film!",
    "",
    "我不爱电影",
    "the plot was " * 40,
    "☃ ｆｉｎｅ Café \x00 [SEP]",
    "😀 fi\u0301lm \U0001f468\u200d\U0001f469",
]
QUESTIONS = ["good", "", "爱", "was " * 30, "not", "film"]
TAGS = ["O", "B-A", "I-A", "B-B", "I-B"]


def classifier(folder, **task):
    return kbert.BertTextClassifier.from_preset(folder, max_length=16, **task)


def tagger(folder, head):
    return kbert.BertTokenClassifier.from_preset(folder, TAGS, head=head, max_length=16)


def masked_lm(folder):
    encoder = kbert.BertEncoder.from_preset(folder)
    tokenizer = kbert.BertTokenizer.from_preset(folder, parse_special_tokens=["[MASK]"])
    return kbert.BertMaskedLM(encoder, tokenizer, FillMaskConfig(top_k=2, max_length=16))


def answerer(folder, no_answer):
    return kbert.BertQuestionAnswerer.from_preset(folder, max_length=16, no_answer=no_answer)


ENTITY = {"entity_text", "entity_label", "entity_start", "entity_end", "entity_score", "entity_count"}
ANSWER = {"answer", "start", "end", "score"}
CASES = {
    "classify": (lambda f: classifier(f, labels=["a", "b", "不"]), {"label", "score", "probabilities"}),
    "multi-label": (lambda f: classifier(f, labels=["a", "b"], problem="multi_label"), {"labels", "probabilities"}),
    "regression": (lambda f: classifier(f, problem="regression"), {"value"}),
    "tag": (lambda f: tagger(f, "dense"), ENTITY),
    "tag with a CRF": (lambda f: tagger(f, "crf"), ENTITY),
    "tag with a BiLSTM and a CRF": (lambda f: tagger(f, "bilstm-crf"), ENTITY),
    "answer": (lambda f: answerer(f, False), ANSWER),
    "answer or none": (lambda f: answerer(f, True), ANSWER),
    "embed": (lambda f: kbert.BertTextEmbedder.from_preset(f, max_length=16), {"embedding"}),
    "fill-mask": (masked_lm, {"token", "score"}),
}


def inputs_of(case: str) -> dict[str, list[str]]:
    """Texts for each input of a case's model."""
    texts = [text.replace("good", "[MASK]") for text in TEXTS] if case == "fill-mask" else TEXTS
    return {"question": QUESTIONS, "context": texts} if "answer" in case else {"text": texts}


def graph_of(folder: Path) -> Any:
    """The GraphDef of an exported version."""
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return saved.meta_graphs[0].graph_def


def text_ops(graph: Any) -> set[str]:
    """The ops of a GraphDef that are not TensorFlow's own."""
    functions = {function.signature.name for function in graph.library.function}
    return {node.op for _, node in all_nodes(graph) if not hasattr(tf.raw_ops, node.op)} - functions


def examples(**columns: list[str]) -> dict[str, list[bytes]]:
    """Serialized `tf.Example`s, written by hand, as the signatures for them take them."""
    rows = []
    for texts in zip(*columns.values(), strict=True):
        example = tf.train.Example()
        for name, text in zip(columns, texts, strict=True):
            example.features.feature[name].bytes_list.value.append(text.encode())
        rows.append(example.SerializeToString())
    return {"inputs": rows}
