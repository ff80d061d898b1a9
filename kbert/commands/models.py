"""Commands about models: which there are, making one, and what it does with files."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from kbert.commands.mobile import HELP, export_litert, litert_arguments
from kbert.commands.settings import settings_arguments, settings_from
from kbert.commands.terminal import load_tensorflow, positive, print_json
from kbert.errors import InputError
from kbert.tasks.settings import SETTINGS

# === presets ===


def presets_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--language", help="only those for this language: en, zh, …")
    parser.add_argument("--task", help="only those that suit this task: classify, tag, answer, embed")


def presets(args: argparse.Namespace) -> None:
    from kbert.checkpoints.presets import list_presets

    for preset in list_presets(args.language, args.task):
        print_json(dataclasses.asdict(preset))


# === finetune ===


def finetune_arguments(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(title="tasks", required=True, metavar="TASK")
    for kind in SETTINGS:
        help = (kind.__doc__ or "").rstrip(".")
        settings_arguments(tasks.add_parser(kind.task, help=help[0].lower() + help[1:], description=kind.__doc__), kind)


def finetune(args: argparse.Namespace) -> None:
    settings = settings_from(args, args.kind)
    load_tensorflow()
    from kbert.tasks.finetuning import finetune

    print_json(finetune(settings))


# === evaluate, predict ===


def _pair_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pair",
        action="store_true",
        help="DIR is a classifier of pairs that another library has trained, and whose folder does not say so",
    )


def _column_arguments(parser: argparse.ArgumentParser, *, label: bool) -> None:
    parser.add_argument("--text-column", default="", help="column of the text")
    parser.add_argument("--pair-column", default="", help="column of the second text")
    if label:
        parser.add_argument("--label-column", default="", help="column of the label")
    else:
        parser.set_defaults(label_column="")
    parser.add_argument("--batch-size", type=positive, default=32, help="texts computed at once (default: 32)")
    parser.add_argument("--skip-bad-lines", action="store_true", help="count bad lines and go on")


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="DIR", help="model folder")
    parser.add_argument("file", metavar="FILE", type=Path, help="file with labels, as `kbert finetune` reads it")
    parser.add_argument("--report", action="store_true", help="metrics per class and the worst mistakes, on stderr")
    _pair_argument(parser)
    _column_arguments(parser, label=True)


def evaluate(args: argparse.Namespace) -> None:
    load_tensorflow()
    from kbert.tasks.running import evaluate_file

    show = functools.partial(print, file=sys.stderr) if args.report else None
    columns, skip = _columns(args), args.skip_bad_lines
    print_json(evaluate_file(args.model, args.file, columns, args.batch_size, skip, show, args.pair))


def predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="DIR", help="model folder")
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help=".tsv, .csv or .jsonl file, or any other file with one text a line; - reads lines from stdin (default)",
    )
    _pair_argument(parser)
    _column_arguments(parser, label=False)
    parser.add_argument(
        "--engine",
        choices=("tensorflow", "litert", "litert-int8"),
        default="tensorflow",
        help="what computes: LiteRT is quicker on a CPU, most of all with int8 weights (default: tensorflow)",
    )


def predict(args: argparse.Namespace) -> None:
    load_tensorflow()
    from kbert.tasks.running import predict_file

    make_engine = None
    if args.engine != "tensorflow":
        from kbert.mobile.litert import LiteRTEngine

        quantize = "int8" if args.engine == "litert-int8" else "none"
        make_engine = functools.partial(LiteRTEngine, quantize=quantize)
    columns, skip = _columns(args), args.skip_bad_lines
    for row in predict_file(args.model, args.file, columns, args.batch_size, skip, make_engine, args.pair):
        print_json(row)


def _columns(args: argparse.Namespace) -> Any:
    from kbert.data.readers import Columns

    return Columns(args.text_column or None, args.pair_column or None, args.label_column or None)


# === export ===


def export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = HELP, argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", metavar="DIR", help="model folder")
    parser.add_argument(
        "target",
        metavar="TARGET",
        type=Path,
        help="folder of the served model, say saved_models/mood; .tflite file; or folder of a Hugging Face model",
    )
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        default="saved-model",
        help="what to write (default: saved-model)",
    )
    _pair_argument(parser)
    parser.add_argument("--version", type=positive, default=1, help="the folder's version to write (default: 1)")
    parser.add_argument(
        "--with",
        dest="heads",
        type=_head,
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="another model with the same encoder (trained with it frozen), as signature NAME; the encoder's weights "
        "are stored once, and computed for each signature; may be repeated",
    )
    parser.add_argument(
        "--name", default="", help="with --with: the signature of the first model, which is serving_default too"
    )
    parser.add_argument(
        "--target",
        dest="runtime",
        action="append",
        metavar="RUNTIME",
        help="tf-serving==2.19 or tf-serving==2.20: which must have all ops of the graph (default: both)",
    )
    parser.add_argument("--no-warmup", action="store_true", help="write no requests for TF Serving to warm up with")
    parser.add_argument("--no-verify", action="store_true", help="do not try the result in TensorFlow's C++ loader")
    litert_arguments(parser)
    parser.set_defaults(default_of=parser.get_default)


def _head(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"must be NAME=DIR, not {text!r}")
    return name, folder


def export(args: argparse.Namespace) -> None:
    for owner, flags in _FLAGS.items():
        for flag, name in flags.items():
            if owner != args.format and getattr(args, name) != args.default_of(name):
                raise InputError(f"{flag} is for --format {owner}, not {args.format}: leave it away")
    load_tensorflow()
    _FORMATS[args.format](args)


def _export_saved_model(args: argparse.Namespace) -> None:
    from kbert.export.assets import size_report
    from kbert.export.ops import RUNTIMES, op_set
    from kbert.export.saved_model import DEFAULT_SIGNATURE, check_target, export_heads
    from kbert.tasks.running import load_task

    check_target(args.target, args.version)  # before the time that loading takes
    runtimes = args.runtime or RUNTIMES
    for runtime in runtimes:
        op_set(runtime)
    folders = [(args.name or DEFAULT_SIGNATURE, args.model), *args.heads]
    if repeated := [name for name, count in Counter(name for name, _ in folders).items() if count > 1]:
        raise InputError(f"--with: {repeated[0]} names two models")
    first, *others = folders
    models = {first[0]: load_task(args.model, pair=args.pair)} | {name: load_task(model) for name, model in others}
    folder = export_heads(
        models,
        args.target,
        args.version,
        verify=not args.no_verify,
        sources=dict(folders),
        runtimes=runtimes,
        warmup=not args.no_warmup,
    )
    print_json({"folder": str(folder), **size_report(folder), "targets": runtimes, "verified": not args.no_verify})


def _export_huggingface(args: argparse.Namespace) -> None:
    from kbert.checkpoints import huggingface, presets
    from kbert.tasks.running import load_task

    if args.target.is_file() or (args.target.is_dir() and any(args.target.iterdir())):
        raise InputError(f"{args.target} is there already: name a new folder")
    checkpoint = load_task(args.model, pair=True).checkpoint() if args.pair else presets.load(args.model)
    huggingface.write(args.target, checkpoint)
    print_json({"folder": str(args.target), "task": checkpoint.task.task if checkpoint.task else None})


_FORMATS = {"saved-model": _export_saved_model, "litert": export_litert, "huggingface": _export_huggingface}
_FLAGS = {
    "saved-model": {
        "--version": "version",
        "--with": "heads",
        "--name": "name",
        "--target": "runtime",
        "--no-warmup": "no_warmup",
        "--no-verify": "no_verify",
    },
    "litert": {
        f"--{name}": name for name in ("inputs", "quantize", "length", "calibration", "report", "author", "license")
    },
}
"""What is said for one format alone: the flag, and its name among the arguments."""


# === quickstart ===


def quickstart_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="of the demo data (default: en)")
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="folder of the run")


def quickstart(args: argparse.Namespace) -> None:
    load_tensorflow()
    from kbert.quickstart import quickstart

    for row in quickstart(args.language, args.out):
        print_json(row)
