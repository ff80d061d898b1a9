"""LiteRT: a model as a flatbuffer, and the fastest engine for a CPU.

Its XNNPACK kernels outrun TensorFlow's, and with int8 weights by far.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kbert.errors import InputError
from kbert.mobile.choices import UNCALIBRATED
from kbert.tasks.masked_lm import BertMaskedLM
from kbert.tasks.predicting import INPUTS
from kbert.tasks.task import Task

# What stays in float32 in "full-int8", by TFLite's names: the values of a tensor share one scale there, of which -1e9
# at padding leaves nothing, and the few large activations of BERT's residual sums and norms too little (Bondarenko et
# al. 2021, https://arxiv.org/abs/2109.12948).
_IN_FLOAT = (
    *("ADD", "SUB", "MUL", "DIV", "NEG", "MEAN", "SUM", "MAXIMUM", "SQRT", "RSQRT", "SQUARED_DIFFERENCE"),
    *("SELECT", "SELECT_V2", "SOFTMAX", "BATCH_MATMUL"),
)


class Quantization(NamedTuple):
    """How a file's weights and activations are stored."""

    kind: str = "none"
    """One of `kbert.mobile.choices.QUANTIZATIONS`; "full-int8" computes dense layers in 8 bits throughout."""
    samples: Iterable[dict[str, np.ndarray]] = ()
    """For "full-int8": inputs by their names, which the scales of activations are taken from."""
    per_tensor: bool = False
    """One scale for a weight matrix, as runtimes of 2023 and older need, instead of one for each of its outputs."""


def to_litert(model: Task, quantize: str = "none") -> bytes:
    """Convert the part of a model that reads token ids; batch and length stay open.

    Args:
        model: Its weights are copied.
        quantize: "none" for float32; "fp16" for weights of 16 bits; "int8" for weights of 8 bits, with activations
            quantized as they come (dynamic range): a quarter of the size.

    Returns:
        A LiteRT file: inputs int32 [B, T] named as the encoder's, output `logits` float32.

    Raises:
        InputError: `quantize` is none of them, or the model has no form in LiteRT.
    """
    if quantize not in UNCALIBRATED:
        raise InputError(f"`quantize` must be one of {', '.join(UNCALIBRATED)}. Received: {quantize!r}")
    signature = [tf.TensorSpec([None, None], tf.int32, name) for name in INPUTS]

    def compute(*rows: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(dict(zip(INPUTS, rows, strict=True)), training=False)}

    return convert(model, compute, signature, Quantization(quantize))


def convert(
    model: Task,
    compute: Callable[..., dict[str, tf.Tensor]],
    signature: Sequence[tf.TensorSpec],
    quantization: Quantization = Quantization(),
) -> bytes:
    """A LiteRT file of a function that computes with a model.

    Args:
        model: Its weights are copied.
        compute: Tensors to named tensors, in a graph.
        signature: The inputs, with names.
        quantization: How to store weights and activations.

    Raises:
        InputError: The model has no form in LiteRT.
    """
    if isinstance(model, BertMaskedLM):
        raise InputError("a masked LM computes at masks alone, of which LiteRT has no form: compute in TensorFlow")
    module = tf.Module()
    module.variables_of_model = [variable.value for variable in model.variables]
    module.compute = tf.function(compute, input_signature=signature, autograph=False)
    skips = model.encoder.skip_padding
    model.encoder.skip_padding = False  # the ops that gather the real tokens have no LiteRT form
    try:
        with tempfile.TemporaryDirectory() as folder:
            tf.saved_model.save(module, folder, signatures=module.compute)
            return _converted(tf.lite.TFLiteConverter.from_saved_model(folder), quantization, model)
    finally:
        model.encoder.skip_padding = skips


def _converted(converter: Any, quantization: Quantization, model: Task) -> bytes:
    from tensorflow.lite.python.convert import ConverterError

    if quantization.kind != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization.kind == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    converter._experimental_disable_per_channel = quantization.per_tensor
    converter._experimental_disable_per_channel_quantization_for_dense_layers = quantization.per_tensor
    try:
        return _calibrated(converter, quantization) if quantization.kind == "full-int8" else converter.convert()
    except ConverterError as error:
        last = str(error).strip().splitlines()[-1]
        raise InputError(
            f"LiteRT has no form of this {type(model).__name__}, which holds an op that does not convert, as a "
            f"BiLSTM's: compute in TensorFlow ({last[:200]})"
        ) from None


def _calibrated(converter: Any, quantization: Quantization) -> bytes:
    """Quantize activations but for `_IN_FLOAT`, which the converter by itself cannot leave out."""
    converter.representative_dataset = lambda: iter(quantization.samples)
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(_IN_FLOAT))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the debugger runs a `tf.lite.Interpreter`, and warns of it
        debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
        return debugger.get_nondebug_quantized_model()


def interpreter_class(purpose: str) -> Any:
    """LiteRT's interpreter.

    Raises:
        InputError: The package ai-edge-litert is missing; the message says what for.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise InputError(f"{purpose} needs ai-edge-litert: pip install ai-edge-litert") from None
    return Interpreter


class LiteRTEngine:
    """Computes a model's logits in LiteRT instead of TensorFlow; pass it to `predict`.

    Args:
        model: Its weights are copied.
        quantize: As in `to_litert`.
        threads: Threads to compute on; None: as many as there are cores.

    Raises:
        InputError: The package ai-edge-litert is missing.
    """

    def __init__(self, model: Task, quantize: str = "none", threads: int | None = None):
        interpreter = interpreter_class("the LiteRT engine")  # before the time that converting takes
        content = to_litert(model, quantize)
        self._interpreter: Any = interpreter(model_content=content, num_threads=threads or os.cpu_count())
        self._inputs = {
            name: detail["index"]
            for name, detail in self._interpreter.get_signature_runner().get_input_details().items()
        }
        if sorted(self._inputs) != sorted(INPUTS):
            raise ValueError(f"the converter has renamed the inputs: {sorted(self._inputs)}")
        self._shape: tuple[int, int] | None = None

    def __call__(self, features: dict[str, Any]) -> np.ndarray:
        """The encoder's inputs, int32 [B, T], to logits float32 [B, ...]."""
        shape = tuple(features["token_ids"].shape)
        if shape != self._shape:
            for index in self._inputs.values():
                self._interpreter.resize_tensor_input(index, shape)
            self._interpreter.allocate_tensors()
            self._shape = shape
        for name, index in self._inputs.items():
            self._interpreter.set_tensor(index, np.asarray(features[name]))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._interpreter.get_output_details()[0]["index"]).copy()
