"""LiteRT: a model as a flatbuffer, and the fastest engine for a CPU.

Its XNNPACK kernels outrun TensorFlow's, and with int8 weights by far.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.errors import InputError
from kbert.tasks.masked_lm import BertMaskedLM
from kbert.tasks.predicting import INPUTS
from kbert.tasks.task import Task

QUANTIZATIONS = ("none", "fp16", "int8", "full-int8")
_OPEN = ("none", "fp16", "int8")  # what needs no texts to calibrate on
# In 8 bits a tensor's values share one scale, which -1e9 would leave nothing of; exp(-30) is nothing beside 1 as well.
_MASKED_IN_8_BITS = -30.0

Samples = Iterable[dict[str, np.ndarray]]
"""Inputs by their names, for activations to be calibrated on."""


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
    if quantize not in _OPEN:
        raise InputError(f"`quantize` must be one of {', '.join(_OPEN)}. Received: {quantize!r}")
    signature = [tf.TensorSpec([None, None], tf.int32, name) for name in INPUTS]
    return convert(
        model,
        lambda *rows: {"logits": model(dict(zip(INPUTS, rows, strict=True)), training=False)},
        signature,
        quantize,
    )


def convert(
    model: Task,
    compute: Callable[..., dict[str, tf.Tensor]],
    signature: Sequence[tf.TensorSpec],
    quantize: str,
    samples: Samples = (),
) -> bytes:
    """A LiteRT file of a function that computes with a model.

    Args:
        model: Its weights are copied.
        compute: Tensors to named tensors, in a graph.
        signature: The inputs, with names.
        quantize: One of `QUANTIZATIONS`; "full-int8" computes activations in 8 bits too, on scales taken from samples.
        samples: Inputs to calibrate on, for "full-int8".

    Raises:
        InputError: The model has no form in LiteRT.
    """
    if isinstance(model, BertMaskedLM):
        raise InputError("a masked LM computes at masks alone, of which LiteRT has no form: compute in TensorFlow")
    module = tf.Module()
    module.variables_of_model = [variable.value for variable in model.variables]
    module.compute = tf.function(compute, input_signature=signature, autograph=False)
    with _convertible(model, quantize), tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.compute)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        _quantized(converter, quantize, samples)
        return _converted(converter, model)


@contextmanager
def _convertible(model: Task, quantize: str) -> Iterator[None]:
    """The model without what LiteRT cannot compute, while it is traced."""
    encoder, head = model.encoder, getattr(model, "head", None)
    changes: list[tuple[Any, str, Any]] = [(encoder, "skip_padding", False)]  # gathering real tokens has no LiteRT form
    if quantize == "full-int8":
        changes += [(encoder, "masked_score", _MASKED_IN_8_BITS), (head, "padding_logit", _MASKED_IN_8_BITS)]
    changes = [change for change in changes if hasattr(change[0], change[1])]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for change in changes:
            setattr(*change)
        yield
    finally:
        for change in before:
            setattr(*change)


def _quantized(converter: Any, quantize: str, samples: Samples) -> None:
    """Set a converter up; ops without a form in 8 bits stay in float32."""
    if quantize == "none":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "full-int8":
        converter.representative_dataset = lambda: iter(samples)


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
