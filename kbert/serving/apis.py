"""TF Serving's calls of a model, whichever way they come: requests in, responses out, both as protocol buffers.

Each takes the model and `run`, which runs one of its signatures: alone, or batched with others' requests. What is
checked, in which order, and which status says so, follows TF Serving: predict_util.cc, classifier.cc, regressor.cc and
multi_inference.cc in tensorflow_serving/servables/tensorflow/.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from kbert.serving import tensors
from kbert.serving.batching import Run
from kbert.serving.calls import Code, ServingError, invalid
from kbert.serving.examples import serialized_examples
from kbert.serving.models import DEFAULT_SIGNATURE, Model

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
APIS = {CLASSIFY: "Classify", REGRESS: "Regress"}


def predict(model: Model, request: Any, run: Run, max_bytes: float = math.inf) -> Any:
    """PredictRequest -> PredictResponse."""
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    model.signature(name)
    inputs = tensors.to_arrays(request.inputs, max_bytes)
    wanted = _wanted(model, name, list(request.output_filter))
    outputs = run(name, inputs)
    response = predict_pb2.PredictResponse()
    _fill_spec(response.model_spec, model, name)
    tensors.fill(response.outputs, {key: outputs[key] for key in wanted or outputs})
    return response


def classify(model: Model, request: Any, run: Run) -> Any:
    """ClassificationRequest -> ClassificationResponse."""
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = _signature(model, name)
    _check_classify(signature)
    response = classification_pb2.ClassificationResponse()
    _fill_classes(response.result, run(name, {"inputs": serialized_examples(request.input)}))
    _fill_spec(response.model_spec, model, name)
    return response


def regress(model: Model, request: Any, run: Run) -> Any:
    """RegressionRequest -> RegressionResponse."""
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = _signature(model, name)
    _check_regress(signature)
    response = regression_pb2.RegressionResponse()
    _fill_values(response.result, run(name, {"inputs": serialized_examples(request.input)}))
    _fill_spec(response.model_spec, model, name)
    return response


def multi_inference(model: Model, request: Any, run: Run) -> Any:
    """MultiInferenceRequest -> MultiInferenceResponse: several signatures, which must share their input tensor."""
    names = [task.model_spec.signature_name or DEFAULT_SIGNATURE for task in request.tasks]
    if len({task.model_spec.name for task in request.tasks}) != 1:
        raise invalid("the tasks of a MultiInferenceRequest must all name the same model")
    placeholders = set()
    for name, task in zip(names, request.tasks, strict=True):
        if names.count(name) > 1:
            raise invalid(f"the signature {name!r} stands in several tasks")
        signature = _signature(model, name)
        _of_method(task.method_name)[0](signature)
        placeholders.add(signature.inputs["inputs"].name)
    if len(placeholders) > 1:
        raise invalid("all signatures of a MultiInferenceRequest must have the same input tensor")
    examples = serialized_examples(request.input)
    response = inference_pb2.MultiInferenceResponse()
    for name, task in zip(names, request.tasks, strict=True):
        _, fill, field = _of_method(task.method_name)
        result = response.results.add()
        fill(getattr(result, field), run(name, {"inputs": examples}))
        _fill_spec(result.model_spec, model, name)
    return response


def metadata(model: Model, request: Any, run: Run) -> Any:
    """GetModelMetadataRequest -> GetModelMetadataResponse; runs nothing."""
    if list(request.metadata_field) != ["signature_def"]:
        raise invalid(f'metadata_field must be ["signature_def"]. Received: {list(request.metadata_field)}')
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    _fill_spec(response.model_spec, model)
    response.metadata["signature_def"].Pack(model.signature_def_map())
    return response


def _wanted(model: Model, signature_name: str, output_filter: Sequence[str]) -> Sequence[str]:
    outputs = model.signature(signature_name).outputs
    if not set(output_filter) <= set(outputs) or len(set(output_filter)) < len(output_filter):
        raise invalid(f"output_filter must name outputs, each once: {sorted(outputs)}. Received: {output_filter}")
    return output_filter


def _fill_spec(spec: Any, model: Model, signature_name: str = "") -> None:
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = signature_name


# === tf.Example in, classes or values out ===


def _signature(model: Model, name: str) -> Any:
    try:
        return model.signature(name)
    except ServingError as error:
        raise invalid(str(error)) from None  # a wrong argument here, where it is a failed precondition in Predict


def _check_classify(signature: Any) -> None:
    _check_method(signature, CLASSIFY)
    if len(signature.inputs) != 1 or len(signature.outputs) not in (1, 2):
        raise invalid("a signature for Classify must have one input, and one or two outputs")
    if "inputs" not in signature.inputs or not {"classes", "scores"} & set(signature.outputs):
        raise ServingError(
            Code.FAILED_PRECONDITION,
            'a signature for Classify must have the input "inputs", and the output "classes" or "scores"',
        )


def _check_regress(signature: Any) -> None:
    _check_method(signature, REGRESS)
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        raise invalid("a signature for Regress must have one input and one output")
    if "inputs" not in signature.inputs or "outputs" not in signature.outputs:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            'a signature for Regress must have the input "inputs" and the output "outputs"',
        )


def _check_method(signature: Any, method: str) -> None:
    if signature.method_name != method:
        raise invalid(f"the signature's method_name must be {method}. It is: {signature.method_name}")


def _fill_classes(result: Any, outputs: Mapping[str, np.ndarray]) -> None:
    classes, scores = outputs.get("classes"), outputs.get("scores")
    for array, dtype in ((classes, object), (scores, np.float32)):
        if array is not None and (array.ndim != 2 or array.dtype != dtype):
            raise invalid(
                f"Classify needs classes of strings and scores of float32, both [B, C]. The model gave {array.dtype} "
                f"{array.shape}"
            )
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(f"the classes have the shape {classes.shape}, the scores {scores.shape}")
    shape = (classes if classes is not None else outputs["scores"]).shape
    for i in range(shape[0]):
        entries = result.classifications.add().classes
        for c in range(shape[1]):
            entry = entries.add()
            if classes is not None:
                entry.label = _text(classes[i, c])
            if scores is not None:
                entry.score = scores[i, c]


def _fill_values(result: Any, outputs: Mapping[str, np.ndarray]) -> None:
    values = outputs["outputs"]
    if values.dtype != np.float32 or values.ndim not in (1, 2) or values.shape[1:] not in ((), (1,)):
        raise invalid(f"Regress needs float32 [B] or [B, 1]. The model gave {values.dtype} {values.shape}")
    for value in values.ravel().tolist():
        result.regressions.add().value = value


def _text(label: bytes) -> str:
    try:
        return label.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ServingError(Code.INTERNAL, f"a class is not UTF-8: {error}") from None


def _of_method(method_name: str) -> tuple[Callable[[Any], None], Callable[[Any, Mapping[str, np.ndarray]], None], str]:
    """How a task of MultiInference is checked, its result filled, and the field that it stands in."""
    methods = {
        CLASSIFY: (_check_classify, _fill_classes, "classification_result"),
        REGRESS: (_check_regress, _fill_values, "regression_result"),
    }
    if method_name not in methods:
        raise ServingError(Code.UNIMPLEMENTED, f"MultiInference knows {sorted(methods)}. Received: {method_name!r}")
    return methods[method_name]
