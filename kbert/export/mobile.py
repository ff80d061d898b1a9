"""A model as one file for a phone: LiteRT with labels and vocabulary inside.

A file of token ids is what MediaPipe Tasks and Task Library run, which tokenize in their own code. A file of text has
kbert's tokenizer in it, and runs in plain LiteRT.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kbert import __version__
from kbert.errors import InputError
from kbert.export.litert import QUANTIZATIONS, Quantization, convert
from kbert.export.litert_metadata import ModelInfo, TensorInfo, with_metadata
from kbert.export.mobile_forms import LABELS_FILE, LITERT, MobileForm, form_of
from kbert.export.text_graph import TextGraph
from kbert.files import check_file, replace_file
from kbert.tasks.inputs import text_columns
from kbert.tasks.task import Task

_log = logging.getLogger(__name__)
INPUT_KINDS = ("ids", "text")
VOCABULARY_FILE = "vocab.txt"
IDS = {"ids": "token_ids", "mask": "padding_mask", "segment_ids": "segment_ids"}
"""The inputs of a file of ids, named as MediaPipe and Task Library ask, and the encoder's."""
_CALIBRATION_TEXTS = 200
_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # which both libraries take for granted
_DESCRIPTIONS = {
    "ids": "Ids of the tokens, [CLS] first, [SEP] behind each text, then padding.",
    "mask": "1 for a token, 0 for padding.",
    "segment_ids": "1 for the tokens of a second text, else 0.",
}


def export_mobile(
    model: Task,
    target: str | Path,
    *,
    inputs: str = "ids",
    quantize: str = "none",
    calibration: Any = None,
    version: str = "1",
    author: str = "",
    license: str = "",
) -> Path:
    """Write a `.tflite` file, whole or not at all; an old one is replaced.

    Rows have the model's `max_length`. A file of ids takes `ids`, `mask` and `segment_ids`, int32 [1, T]; a file of
    text takes `text` (and `text_pair`), uint8 [1, N], to be resized to the text's UTF-8 bytes or to any larger number,
    zeros behind the text; for an empty one a single zero. Classifiers and taggers give `probability`, embedders
    `embedding`, question answerers `start_logits` and `end_logits`, regression `value`.

    Args:
        model: A task model; see `kbert.export.mobile_forms` for which have a form.
        target: The file.
        inputs: "ids" or "text".
        quantize: "none" for float32; "fp16" for weights of 16 bits; "int8" for weights of 8 bits; "full-int8" for
            dense layers whose activations have 8 bits too.
        calibration: For "full-int8": texts like those to come, as `predict` takes them; some 200 are enough.
        version: Of the model, for the metadata, as are the next.
        author: Who made it.
        license: What it may be used under.

    Raises:
        InputError: The model has no such form, calibration texts are missing, or the target cannot be written.
    """
    target = Path(target)
    check_file(target)
    content = mobile_file(model, inputs, quantize, calibration, (target.stem, version, author, license))
    replace_file(target, content)
    return target


def mobile_file(
    model: Task,
    inputs: str = "ids",
    quantize: str = "none",
    calibration: Any = None,
    words: tuple[str, str, str, str] = ("model", "1", "", ""),
) -> bytes:
    """The content of the file that `export_mobile` writes; `words` are name, version, author and license."""
    form = checked_form(model, inputs, quantize)
    signature, compute = _text_inputs(model, form) if inputs == "text" else _id_inputs(model, form)
    samples: list[dict[str, np.ndarray]] = []
    if quantize == "full-int8":
        if calibration is None:
            raise InputError("full-int8 measures activations on texts: give some for calibration (--calibration FILE)")
        samples = _samples(model, calibration, inputs)
    content = convert(model, compute, signature, Quantization(quantize, samples, form.per_tensor))
    files = {LABELS_FILE: "".join(f"{label}\n" for label in form.labels).encode()} if form.labels else {}
    if inputs == "ids":
        files[VOCABULARY_FILE] = "".join(f"{token}\n" for token in model.tokenizer.vocabulary).encode()
    name, version, author, license = words
    info = ModelInfo(
        name,
        f"A BERT model of the task {model.task.task}, by kbert {__version__}.",
        version,
        author,
        license,
        [
            TensorInfo(spec.name, _DESCRIPTIONS.get(spec.name, "A text in UTF-8, zeros behind it."))
            for spec in signature
        ],
        form.outputs,
        VOCABULARY_FILE if inputs == "ids" else "",
    )
    return with_metadata(content, info, files)


def checked_form(model: Task, inputs: str, quantize: str) -> MobileForm:
    """The model's form, if it can have it with these inputs."""
    for name, value, known in (("inputs", inputs, INPUT_KINDS), ("quantize", quantize, QUANTIZATIONS)):
        if value not in known:
            raise InputError(f"`{name}` must be one of {', '.join(known)}. Received: {value!r}")
    form = form_of(model)
    if inputs == "text" and not form.reads_text:
        raise InputError(
            f"{model.task.task} answers with parts of the text, for which an app must know the tokens: export with "
            "inputs of ids (--inputs ids)"
        )
    return form


def apps(model: Task, inputs: str, quantize: str) -> list[str]:
    """What runs the file; and warns of texts that the phone libraries' tokenizer reads otherwise."""
    ready = form_of(model).apps("int8" in quantize) if inputs == "ids" else []
    if not ready:
        return [LITERT]
    tokenizer = model.tokenizer
    if tuple(tokenizer.config.special_tokens[:4]) != _SPECIAL_TOKENS or tokenizer.pad_id != 0:
        _log.warning("the special tokens are not BERT's usual ones, which MediaPipe and Task Library ask for")
        return [LITERT]
    if not tokenizer.config.do_lower_case:
        _log.warning(
            "the model is cased, but MediaPipe and Task Library lower-case ASCII letters: they will misread texts with "
            "capitals; a file with --inputs text does not"
        )
    elif tokenizer.config.strips_accents:
        _log.warning(
            "MediaPipe and Task Library lower-case ASCII letters alone and keep accents: they will misread texts with "
            "É or é; a file with --inputs text does not"
        )
    return [*ready, LITERT]


def _id_inputs(model: Task, form: MobileForm) -> tuple[list[tf.TensorSpec], Any]:
    signature = [tf.TensorSpec([1, model.task.max_length], tf.int32, name) for name in IDS]
    return signature, lambda *rows: form.compute(dict(zip(IDS.values(), rows, strict=True)))


def _text_inputs(model: Task, form: MobileForm) -> tuple[list[tf.TensorSpec], Any]:
    read = TextGraph(model.tokenizer)
    signature = [tf.TensorSpec([1, None], tf.uint8, name) for name in model.input_names]
    return signature, lambda *texts: form.compute(read(list(texts), model.task.max_length))


# === Texts as inputs of a file ===


def id_rows(model: Task, features: dict[str, tf.Tensor]) -> list[dict[str, np.ndarray]]:
    """Each row of a model's features as the inputs of a file of ids, int32 [1, T]."""
    T = model.task.max_length
    padding = {"ids": model.tokenizer.pad_id, "mask": 0, "segment_ids": 0}
    columns = {name: np.asarray(features[feature]) for name, feature in IDS.items()}
    padded = {
        name: np.pad(rows, [(0, 0), (0, T - rows.shape[1])], constant_values=padding[name])
        for name, rows in columns.items()
    }
    return [{name: rows[i : i + 1] for name, rows in padded.items()} for i in range(len(padded["ids"]))]


def text_rows(model: Task, columns: Sequence[Sequence[str]]) -> list[dict[str, np.ndarray]]:
    """Each text, or pair of texts, as the inputs of a file of text, uint8 [1, N]."""
    return [
        {
            name: np.frombuffer(text.encode("utf8", "replace") or b"\0", np.uint8)[None]
            for name, text in zip(model.input_names, texts, strict=True)
        }
        for texts in zip(*columns, strict=True)
    ]


def _samples(model: Task, calibration: Any, inputs: str) -> list[dict[str, np.ndarray]]:
    texts = [row for row in zip(*text_columns(calibration, model.input_names), strict=True) if any(map(str.strip, row))]
    if not texts:
        raise InputError("the texts for calibration are all blank")
    columns = list(zip(*texts, strict=True))
    step = -(-len(columns[0]) // _CALIBRATION_TEXTS)
    columns = [column[::step] for column in columns]
    if inputs == "text":
        return text_rows(model, columns)
    return id_rows(model, model.features(*(tf.constant(column) for column in columns)))
