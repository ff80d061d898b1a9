"""A model as one file for a phone: LiteRT with labels and vocabulary inside.

A file of token ids is what MediaPipe Tasks and Task Library run, which tokenize in their own code; of what these lose,
a file of characters gets back the accents. A file of text has kbert's tokenizer in it, and runs in plain LiteRT.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kbert import __version__
from kbert.errors import InputError
from kbert.files import check_file, replace_file
from kbert.mobile.characters import SPECIAL_TOKENS
from kbert.mobile.choices import INPUT_KINDS, QUANTIZATIONS
from kbert.mobile.forms import LABELS_FILE, LITERT, MobileForm, form_of
from kbert.mobile.inputs import INPUTS_OF_KIND, IdInputs, Rows
from kbert.mobile.litert import Quantization, convert
from kbert.mobile.metadata import ModelInfo, with_metadata
from kbert.tasks.inputs import text_columns
from kbert.tasks.task import Task

_log = logging.getLogger(__name__)
VOCABULARY_FILE = "vocab.txt"
_CALIBRATION_TEXTS = 200


class About(NamedTuple):
    """What the metadata of a file say of the model."""

    name: str = "model"
    version: str = "1"
    author: str = ""
    """Who made it."""
    license: str = ""
    """What it may be used under."""


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

    Rows have the model's `max_length`. A file of ids takes `ids`, `mask` and `segment_ids`, int32 [1, T], and so does a
    file of characters, whose vocabulary is single characters and whose rows are six times as long. A file of text takes
    `text` (and `text_pair`), uint8 [1, N], to be resized to the text's UTF-8 bytes or to any larger number, zeros
    behind the text; for an empty one a single zero. Classifiers and taggers give `probability`, embedders `embedding`,
    question answerers `start_logits` and `end_logits`, regression `value`.

    Args:
        model: A task model; see `kbert.mobile.forms` for which have a form.
        target: The file.
        inputs: "ids", "characters" or "text".
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
    content = mobile_file(model, inputs, quantize, calibration, About(target.stem, version, author, license))
    replace_file(target, content)
    return target


def mobile_file(
    model: Task,
    inputs: str = "ids",
    quantize: str = "none",
    calibration: Any = None,
    about: About = About(),
) -> bytes:
    """The content of the file that `export_mobile` writes."""
    for name, value, known in (("inputs", inputs, INPUT_KINDS), ("quantize", quantize, QUANTIZATIONS)):
        if value not in known:
            raise InputError(f"`{name}` must be one of {', '.join(known)}. Received: {value!r}")
    form = form_of(model)
    reads = INPUTS_OF_KIND[inputs](model, form)
    samples = _samples(model, reads, calibration) if quantize == "full-int8" else []
    quantization = Quantization(quantize, samples, form.per_tensor)
    content = convert(model, lambda *row: form.compute(reads.features(*row)), reads.signature, quantization)
    return _described(content, model, form, reads, about)


def _samples(model: Task, reads: IdInputs, calibration: Any) -> Rows:
    """Texts as the file's inputs, to measure activations on."""
    if calibration is None:
        raise InputError("full-int8 measures activations on texts: give some for calibration (--calibration FILE)")
    return reads.rows(_calibration_columns(model, calibration))


def _described(content: bytes, model: Task, form: MobileForm, reads: IdInputs, about: About) -> bytes:
    """A LiteRT model with metadata, labels and vocabulary."""
    files = {LABELS_FILE: form.labels, VOCABULARY_FILE: reads.vocabulary}
    info = ModelInfo(
        about.name,
        f"A BERT model of the task {model.task.task}, by kbert {__version__}.",
        about.version,
        about.author,
        about.license,
        reads.infos,
        form.outputs,
        VOCABULARY_FILE if reads.vocabulary else "",
    )
    return with_metadata(content, info, {name: _lines(lines) for name, lines in files.items() if lines})


def _lines(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def apps(model: Task, inputs: str, quantize: str) -> list[str]:
    """What runs the file; and warns of texts that the phone libraries' tokenizer reads otherwise."""
    ready = [] if inputs == "text" else form_of(model).apps("int8" in quantize)
    if not ready:
        return [LITERT]
    tokenizer = model.tokenizer
    unusual = tokenizer.config.special_tokens[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS or tokenizer.pad_id != 0
    if inputs == "ids" and unusual:
        _log.warning("the special tokens are not BERT's usual ones, which MediaPipe and Task Library ask for")
        return [LITERT]
    if not tokenizer.config.do_lower_case:
        _log.warning(
            "the model is cased, but MediaPipe and Task Library lower-case ASCII letters: they will misread texts with "
            "capitals; a file with --inputs text does not"
        )
    elif inputs == "ids":
        _log.warning(
            "MediaPipe and Task Library lower-case ASCII letters alone and keep accents: they will misread texts with "
            "É or é; a file with --inputs characters or text does not"
        )
    return [*ready, LITERT]


def _calibration_columns(model: Task, calibration: Any) -> list[tuple[str, ...]]:
    """Some of the texts, from all parts of what there are; blank ones say nothing."""
    mend = "give some 200 texts like those to come"
    try:
        columns = text_columns(calibration, model.input_names)
    except InputError as error:
        raise InputError(f"`calibration`: {error}; {mend}") from None
    texts = [row for row in zip(*columns, strict=True) if any(map(str.strip, row))]
    if not texts:
        raise InputError(f"`calibration`: the texts are all blank; {mend}")
    return list(zip(*texts[:: -(-len(texts) // _CALIBRATION_TEXTS)], strict=True))
