"""tf.Examples, which Classify and Regress take: from a request to the strings that a signature reads, and as JSON.

JSON has `{"signature_name": …, "context": {…}, "examples": [{"feature": value or list, …}, …]}`, and answers with
`{"results": [[[label, score], …], …]}` or `{"results": [value, …]}`
(tensorflow_serving/util/json_tensor.cc).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2

from kbert.serving.calls import invalid
from kbert.serving.json_format import (
    excerpt,
    fits_float,
    is_base64,
    parse_object,
    shortest,
    signature_name_of,
    to_bytes,
)

INT64 = range(-(2**63), 2**63)


def serialized_examples(source: Any) -> np.ndarray:
    """An Input as the strings [B] that a signature parses; a context is put before each example.

    Args:
        source: tensorflow.serving.Input.

    Raises:
        ServingError: INVALID_ARGUMENT, if it holds no example.
    """
    examples, context = source.example_list.examples, b""
    if source.HasField("example_list_with_context"):
        examples = source.example_list_with_context.examples
        # Concatenated messages are one that has the fields of both: those of the example win.
        context = source.example_list_with_context.context.SerializeToString()
    if not examples:
        raise invalid("the input is empty: it must hold at least one example")
    array = np.empty(len(examples), object)
    array[:] = [context + example.SerializeToString() for example in examples]
    return array


def number_of_examples(source: Any) -> int:
    """How many examples an Input holds."""
    return len(source.example_list.examples) or len(source.example_list_with_context.examples)


def read_examples(body: bytes, request: Any) -> None:
    """Fill a ClassificationRequest or RegressionRequest from JSON.

    Raises:
        ServingError: INVALID_ARGUMENT, naming what was expected.
    """
    content = parse_object(body)
    request.model_spec.signature_name = signature_name_of(content)
    examples = content.get("examples")
    if not isinstance(examples, list) or not examples:
        raise invalid(f'the body must hold "examples", a list with at least one element. Received: {excerpt(examples)}')
    target = request.input.example_list
    if "context" in content:
        target = request.input.example_list_with_context
        target.context.CopyFrom(_to_example(content["context"], '"context"'))
    target.examples.extend(_to_example(value, f"examples[{i}]") for i, value in enumerate(examples))


def write_classes(response: Any) -> bytes:
    """ClassificationResponse as JSON."""
    results = [
        [[entry.label, _number(entry.score)] for entry in row.classes] for row in response.result.classifications
    ]
    return json.dumps({"results": results}, ensure_ascii=False).encode()


def write_values(response: Any) -> bytes:
    """RegressionResponse as JSON."""
    return json.dumps({"results": [_number(row.value) for row in response.result.regressions]}).encode()


def _number(value: float) -> float:
    return shortest(np.array(value, np.float32)).item()


def _to_example(content: Any, where: str) -> example_pb2.Example:
    if not isinstance(content, dict):
        raise invalid(f"{where} must be an object of features. Received: {excerpt(content)}")
    example = example_pb2.Example()
    for name, value in content.items():
        to_bytes(name, f"a feature's name in {where}")
        values = value if isinstance(value, list) else [value]
        example.features.feature[name].CopyFrom(_to_feature(values, f"{where}[{name!r}]"))
    return example


def _to_feature(values: list[Any], where: str) -> feature_pb2.Feature:
    """All strings, all floats or all whole numbers; true and false are 1 and 0."""
    feature = feature_pb2.Feature()
    if not values:
        return feature
    if all(isinstance(value, str) or is_base64(value) for value in values):
        feature.bytes_list.value.extend(to_bytes(value, where) for value in values)
    elif all(isinstance(value, int) and int(value) in INT64 for value in values):
        feature.int64_list.value.extend(map(int, values))
    elif all(isinstance(value, float) and fits_float(value, np.dtype(np.float32)) for value in values):
        feature.float_list.value.extend(values)
    else:
        raise invalid(f"{where} must be strings, int64 or floats, all of one kind. Received: {excerpt(values)}")
    return feature
