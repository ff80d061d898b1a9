"""LiteRT: a model as a flatbuffer, and the fastest engine for a CPU.

Its XNNPACK kernels outrun TensorFlow's, and with int8 weights by far.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.errors import InputError
from kbert.tasks.masked_lm import BertMaskedLM
from kbert.tasks.predicting import INPUTS
from kbert.tasks.task import Task

QUANTIZATIONS = ("none", "int8")


def to_litert(model: Task, quantize: str = "none") -> bytes:
    """Convert the part of a model that reads token ids; batch and length stay open.

    Args:
        model: Its weights are copied.
        quantize: "none" for float32; "int8" for weights of 8 bits, with activations quantized as they come (dynamic
            range): a quarter of the size.

    Returns:
        A LiteRT file: inputs int32 [B, T] named as the encoder's, output `logits` float32.

    Raises:
        InputError: `quantize` is neither.
    """
    if isinstance(model, BertMaskedLM):
        raise InputError("a masked LM computes at masks alone, of which LiteRT has no form: compute in TensorFlow")
    if quantize not in QUANTIZATIONS:
        raise InputError(f"`quantize` must be one of {', '.join(QUANTIZATIONS)}. Received: {quantize!r}")
    module = tf.Module()
    module.variables_of_model = [variable.value for variable in model.variables]
    signature = [tf.TensorSpec([None, None], tf.int32, name) for name in INPUTS]
    module.logits = tf.function(
        lambda *features: {"logits": model(dict(zip(INPUTS, features, strict=True)), training=False)},
        input_signature=signature,
        autograph=False,
    )
    skips = model.encoder.skip_padding
    model.encoder.skip_padding = False  # the ops that gather the real tokens have no LiteRT form
    try:
        with tempfile.TemporaryDirectory() as folder:
            tf.saved_model.save(module, folder, signatures=module.logits)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            if quantize == "int8":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            return _converted(converter, model)
    finally:
        model.encoder.skip_padding = skips


def _converted(converter: Any, model: Task) -> bytes:
    from tensorflow.lite.python.convert import ConverterError

    try:
        return converter.convert()
    except ConverterError as error:
        last = str(error).strip().splitlines()[-1]
        raise InputError(
            f"LiteRT has no form of this {type(model).__name__}, which holds an op that does not convert, as a "
            f"BiLSTM's: compute in TensorFlow ({last[:200]})"
        ) from None


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
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise InputError("the LiteRT engine needs ai-edge-litert: pip install ai-edge-litert") from None
        self._interpreter: Any = Interpreter(
            model_content=to_litert(model, quantize), num_threads=threads or os.cpu_count()
        )
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
