"""The signatures of a served model: strings for TF Serving's Predict, `tf.Example` for its Classify and Regress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from kbert.export.cpp_loader import Inputs
from kbert.tasks.task import Task

Columns = Sequence[Sequence[str]]
"""Texts, a list for each of a model's `input_names`."""
Infer = Callable[[Mapping[str, tf.Tensor]], Any]


@dataclass(frozen=True)
class PredictSignature:
    """Strings [B], one input for each of a model's, to the answers of `predict`."""

    model: Task
    function: Any
    """The tf.function to save."""

    method_name = "tensorflow/serving/predict"

    def inputs(self, columns: Columns) -> Inputs:
        """What the signature takes for texts."""
        return dict(zip(self.model.input_names, columns, strict=True))

    def expected(self, columns: Columns) -> dict[str, np.ndarray]:
        """What it must answer to them, computed by the model itself."""
        return self.model.predict(tuple(columns) if len(columns) > 1 else columns[0])

    def log(self, model: str, signature: str, columns: Columns) -> prediction_log_pb2.PredictionLog:
        """A request with these texts as TF Serving logs and replays it."""
        log = prediction_log_pb2.PredictionLog()
        request = log.predict_log.request
        request.model_spec.name, request.model_spec.signature_name = model, signature
        for name, texts in self.inputs(columns).items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(list(texts), tf.string))
        return log


@dataclass(frozen=True)
class ExampleSignature:
    """`tf.Example` with a feature for each of a model's inputs, to `Task.example_answers`.

    TF Serving asks for one input `inputs`, serialized examples [B], and for outputs of fixed names and shapes
    (`PostProcessClassificationResult` of its classifier.cc, `PostProcessRegressionResult` of its regressor.cc).
    """

    model: Task
    function: Any
    api: str
    """"classify" or "regress"."""

    @property
    def method_name(self) -> str:
        """The API that TF Serving lets call it, beside Predict."""
        return f"tensorflow/serving/{self.api}"

    def inputs(self, columns: Columns) -> Inputs:
        """As `PredictSignature.inputs`."""
        return {"inputs": [example.SerializeToString() for example in self._examples(columns)]}

    def expected(self, columns: Columns) -> dict[str, np.ndarray]:
        """As `PredictSignature.expected`."""
        answers = self.model.predict(tuple(columns) if len(columns) > 1 else columns[0])
        outputs = self.model.example_answers({name: tf.constant(value) for name, value in answers.items()})
        arrays = {name: value.numpy() for name, value in outputs.items()}
        return {
            name: np.vectorize(bytes.decode, otypes=[object])(array) if array.dtype == object else array
            for name, array in arrays.items()
        }

    def log(self, model: str, signature: str, columns: Columns) -> prediction_log_pb2.PredictionLog:
        """As `PredictSignature.log`."""
        log = prediction_log_pb2.PredictionLog()
        request = getattr(log, f"{self.api}_log").request
        request.model_spec.name, request.model_spec.signature_name = model, signature
        request.input.example_list.examples.extend(self._examples(columns))
        return log

    def _examples(self, columns: Columns) -> list[tf.train.Example]:
        examples = []
        for texts in zip(*columns, strict=True):
            features = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode("utf8")]))
                for name, text in zip(self.model.input_names, texts, strict=True)
            }
            examples.append(tf.train.Example(features=tf.train.Features(feature=features)))
        return examples


Signature = PredictSignature | ExampleSignature


def signatures_of(name: str, example_prefix: str, model: Task, infer: Infer) -> dict[str, Signature]:
    """The signatures of a model by their names.

    Args:
        name: of the one for strings.
        example_prefix: what the name of the one for `tf.Example` begins with; "classify" or "regress" follows.
        model: what they answer with.
        infer: computes as its `infer` does.
    """
    serve = _serve(model, infer)
    signatures: dict[str, Signature] = {name: PredictSignature(model, serve)}
    if (api := model.example_api) is not None:
        signatures[example_prefix + api] = ExampleSignature(model, _serve_examples(model, serve), api)
    return signatures


def _serve(model: Task, infer: Infer) -> Any:
    signature = [tf.TensorSpec([None], tf.string, name=name) for name in model.input_names]

    @tf.function(input_signature=signature, autograph=False)
    def serve(*texts):
        features = model.features(*texts)
        answers = model.answers(infer(features), features, *texts)
        return {
            name: tf.cast(value, tf.float32) if value.dtype.is_floating else value for name, value in answers.items()
        }

    return serve


def _serve_examples(model: Task, serve: Any) -> Any:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")], autograph=False)
    def serve_examples(inputs):
        features = {name: tf.io.FixedLenFeature([], tf.string) for name in model.input_names}
        texts = tf.io.parse_example(inputs, features)
        return model.example_answers(serve(*(texts[name] for name in model.input_names)))

    return serve_examples
