"""SavedModels made of a few TensorFlow ops, whose answers a test can work out by hand, and one server for them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from kbert.serving.server import ModelServer


class Toy(tf.Module):
    """Signatures for each kind of answer and failure; `factor` tells one version from another."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = tf.Variable(factor)
        words = tf.lookup.KeyValueTensorInitializer(["[UNK]", "fine", "film"], tf.range(3, dtype=tf.int64))
        self.table = tf.lookup.StaticHashTable(words, default_value=-1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.float32)])
    def two_inputs(self, text, weight):
        return {
            "upper": tf.strings.upper(text, encoding="utf-8"),
            "product": weight * self.factor,
            "pieces": tf.stack([text, tf.as_string(tf.strings.length(text, unit="UTF8_CHAR")), text + "!"], axis=1),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def one_output(self, text):
        return {"length": tf.strings.length(text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def look_up(self, text):
        return {"id": self.table.lookup(text)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    def types(self, values):
        return {
            "whole": tf.cast(values, tf.int64),
            "positive": values > 0,
            "inverse": 1 / values,
            "double": tf.cast(values, tf.float64),
            "raw_bytes": tf.strings.as_string(values, precision=1),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def check(self, number):
        with tf.control_dependencies([tf.debugging.assert_positive(number, message="numbers must be positive")]):
            return {"number": tf.identity(number)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def read(self, path):
        return {"content": tf.map_fn(tf.io.read_file, path)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def half(self, value):
        return {"half": tf.cast(value, tf.float16)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def total(self, value):
        return {"total": tf.reduce_sum(value), "value": value}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def echo(self, text):
        return {"echo": text, "echo_bytes": text}


class Sentiment(tf.Module):
    """The inputs and outputs of an exported classifier."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def classify(self, text):
        positive = tf.strings.regex_full_match(text, ".*fine.*")
        probability = tf.where(positive, 0.75, 0.25)
        return {
            "label": tf.where(positive, "positive", "negative"),
            "score": tf.maximum(probability, 1 - probability),
            "probabilities": tf.stack([1 - probability, probability], axis=1),
        }


def save_toy(folder: Path, factor: float) -> None:
    """Write one version of the model "toy"."""
    toy = Toy(factor)
    names = ("one_output", "look_up", "types", "check", "read", "half", "total", "echo")
    signatures = {"serving_default": toy.two_inputs, **{name: getattr(toy, name) for name in names}}
    tf.saved_model.save(toy, str(folder), signatures=signatures)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models "toy" (versions 2 and 10) and "sentiment" (version 1), beside things that are no models."""
    root = tmp_path_factory.mktemp("saved_models")
    save_toy(root / "toy" / "2", factor=2.0)
    save_toy(root / "toy" / "10", factor=10.0)
    sentiment = Sentiment()
    tf.saved_model.save(sentiment, str(root / "sentiment" / "1"), signatures=sentiment.classify)
    (root / "toy" / "11").mkdir()  # no saved_model.pb
    (root / "toy" / "backup").mkdir()
    (root / "notes.txt").write_text("not a model")
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[ModelServer]:
    """One running server, on free ports."""
    with ModelServer(root, grpc_port=0, rest_port=0) as server:
        yield server
