"""`kbert export --format litert`: a file for phones."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from kbert.commands.terminal import positive, print_json
from kbert.errors import InputError
from kbert.mobile.choices import INPUT_KINDS, QUANTIZATIONS

HELP = """apps of a .tflite file (--format litert):
  classify     ids: MediaPipe TextClassifier, Task Library BertNLClassifier (not int8), LiteRT; text: LiteRT
               (pairs of texts and regression: LiteRT alone)
  embed        ids: MediaPipe TextEmbedder, LiteRT; text: LiteRT
  answer       ids: Task Library BertQuestionAnswerer (with --length 384), LiteRT
  tag          ids: LiteRT (a dense head alone)
  fill-mask    none
A file of ids wants its inputs tokenized, which MediaPipe and Task Library do; they lower-case ASCII letters and keep
accents, so that they misread capitals for a cased model and é for an uncased one. A file of characters is run by the
same two where they classify or embed, and reads é right, not capitals. A file of text takes UTF-8 bytes, reads every
text exactly as kbert does, and runs in any LiteRT without extra ops.
"""


def litert_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a .tflite file (--format litert)")
    group.add_argument(
        "--inputs",
        choices=INPUT_KINDS,
        default="ids",
        help="what the file takes: see below (default: ids)",
    )
    group.add_argument(
        "--quantize",
        choices=QUANTIZATIONS,
        default="none",
        help="float32; weights of 16 bits; weights of 8 bits; dense layers' activations of 8 bits too (default: none)",
    )
    group.add_argument("--length", type=positive, help="tokens of a row (default: the model's own)")
    group.add_argument("--calibration", type=Path, metavar="FILE", help="texts like those to come, for full-int8")
    group.add_argument(
        "--report", type=Path, metavar="FILE", help="labelled file to compare the file with the model on"
    )
    group.add_argument("--author", default="", help="for the file's metadata")
    group.add_argument("--license", default="", help="for the file's metadata")


def export_litert(args: argparse.Namespace) -> None:
    from kbert.data.readers import Columns
    from kbert.files import check_file
    from kbert.mobile.litert import interpreter_class
    from kbert.tasks.running import load_task, read_labelled

    if args.quantize == "full-int8" and args.calibration is None:
        raise InputError("full-int8 measures activations on texts: add --calibration FILE")
    if args.quantize != "full-int8" and args.calibration is not None:
        raise InputError(f"--calibration is for --quantize full-int8, not {args.quantize}: leave it away")
    check_file(args.target)  # before the time that loading takes, as is the next
    if args.report:
        interpreter_class("--report")
    model = load_task(args.model, args.length, args.pair)
    _check_form(model, args.model)
    calibration = _calibration(model, args.calibration) if args.calibration else None
    labelled = read_labelled(model, args.report, Columns()) if args.report else None
    print_json(_exported(args, model, calibration, labelled))


def _check_form(model: Any, folder: str) -> None:
    from kbert.mobile.forms import form_of

    try:
        form_of(model)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None


def _calibration(model: Any, path: Path) -> Any:
    """The texts of a file, of which there must be some."""
    from kbert.data.readers import Columns
    from kbert.tasks.running import read_unlabelled

    mend = "give --calibration a file of some 200 texts like those to come"
    try:
        loaded = read_unlabelled(model, path, Columns())
    except InputError as error:
        raise InputError(f"{error}; {mend}") from None
    if not any(text.strip() for column in loaded.columns.values() for text in column):
        raise InputError(f"{path} holds blank texts alone; {mend}")
    return loaded.x


def _exported(args: argparse.Namespace, model: Any, calibration: Any, labelled: Any) -> dict[str, Any]:
    """Write the file; what there is to say of it."""
    from kbert.mobile.export import apps, export_mobile, mobile_file
    from kbert.mobile.report import report

    kind = {"inputs": args.inputs, "quantize": args.quantize}
    about = {"version": str(args.version), "author": args.author, "license": args.license}
    export_mobile(model, args.target, **kind, calibration=calibration, **about)
    content = args.target.read_bytes()
    result = {
        "file": str(args.target),
        "bytes": len(content),
        **kind,
        "length": model.task.max_length,
        "apps": apps(model, args.inputs, args.quantize),
    }
    if labelled is None:
        return result
    baseline = content if args.quantize == "none" else mobile_file(model, args.inputs)
    result["size_ratio"] = round(len(content) / len(baseline), 4)
    return result | {"report": report(model, labelled.x, labelled.y, args.inputs, content, baseline)}
