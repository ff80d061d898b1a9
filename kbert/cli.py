"""The command line: one thin command per verb. Results go to stdout as JSON, everything else to stderr.

Only the standard library and the plain dataclasses of settings are imported at the top, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import logging
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kbert import __version__
from kbert.errors import InputError
from kbert.tasks.settings import FinetuneSettings, flag, read_toml

_CORPUS_LINES = 256  # in memory at a time


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for wrong input, 1 for anything else (with a traceback)."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("absl", "tensorflow"):  # their progress notes are not ours
        logging.getLogger(name).setLevel(logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON's encoding, whatever the locale
    try:
        args.run(args)
    except InputError as error:
        print(f"kbert: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of stdout has gone; keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ConnectionError as error:
        print(f"kbert: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(f"kbert: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kbert: stopped", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"kbert: {message}; `{self.prog} --help` says more\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kbert", description="BERT from raw text to an answer in production.")
    parser.add_argument("--version", action="version", version=f"kbert {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (help, add_arguments, run) in _COMMANDS.items():
        command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        add_arguments(command)
        command.set_defaults(run=run)
    return parser


def _load_tensorflow() -> None:
    """Import TensorFlow with its start-up notes held back, so that stderr speaks of the user's work.

    TF_CPP_MIN_LOG_LEVEL does not reach the notes that are written before logging is set up. If the import fails, all
    of them are shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's other work runs on
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow as tf
            import tensorflow_text  # noqa: F401

            tf.config.list_physical_devices()  # looks for a GPU, and notes that there is none
        except BaseException:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


# === presets ===


def _presets_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--language", help="only those for this language: en, zh, …")
    parser.add_argument("--task", help="only those that suit this task: classify, tag, answer, embed")


def _presets(args: argparse.Namespace) -> None:
    from kbert.checkpoints.presets import list_presets

    for preset in list_presets(args.language, args.task):
        _print_json(dataclasses.asdict(preset))


# === vocab ===


def _vocab_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "corpus",
        metavar="CORPUS",
        nargs="+",
        help="text file, or .tsv, .csv or .jsonl file, of which the texts are read, plain or .gz; - reads stdin",
    )
    parser.add_argument("--size", type=_positive, default=30_000, help="tokens to learn (default: 30000)")
    parser.add_argument(
        "--out", type=Path, required=True, help="file to write, one token a line; one that holds something else stays"
    )
    parser.add_argument("--cased", action="store_true", help="keep upper case and accents")
    parser.add_argument(
        "--min-frequency",
        type=_positive,
        default=2,
        help="least occurrences of a character or of a pair of pieces that becomes one (default: 2)",
    )
    parser.add_argument("--text-column", default="", help="column of the text")
    parser.add_argument("--pair-column", default="", help="column of the second text")
    parser.set_defaults(label_column="")


def _vocab(args: argparse.Namespace) -> None:
    from kbert.data.readers import FORMATS, table_format

    for file in args.corpus:
        if file != "-" and not Path(file).exists():
            raise InputError(f"{file} does not exist")
    if args.out.is_dir():
        raise InputError(f"{args.out} is a folder: name the file to write with --out")
    if (args.text_column or args.pair_column) and not any(table_format(Path(file)) for file in args.corpus):
        raise InputError(f"no CORPUS has columns: use {', '.join(FORMATS)} to name some")
    _load_tensorflow()
    from kbert.config import TokenizerConfig
    from kbert.files import replaced_files
    from kbert.tokenization.learning import learn_vocabulary

    with replaced_files(args.out.parent, args.out.name) as partial:  # before the time that learning takes
        config = TokenizerConfig(do_lower_case=not args.cased)
        learnt = learn_vocabulary(_corpus_texts(args.corpus, _columns(args)), args.size, config, args.min_frequency)
        content = "".join(token + "\n" for token in learnt.tokens).encode()
        if args.out.exists() and args.out.read_bytes() != content:
            raise InputError(f"{args.out} exists and holds something else: remove it, or name another file with --out")
        (partial / args.out.name).write_bytes(content)
    _print_json(
        {
            "vocabulary": str(args.out),
            "tokens": len(learnt.tokens),
            "characters": learnt.num_characters,
            "characters_left_out": len(learnt.left_out),
            "words": learnt.num_words,
            "distinct_words": learnt.num_distinct_words,
            "unknown_words": learnt.num_unknown_words,
        }
    )


def _corpus_texts(files: Sequence[str], columns: Any) -> Iterator[str]:
    from kbert.data.readers import read_lines, read_texts, table_format

    for file in files:
        if file != "-" and table_format(Path(file)):
            records = read_texts(file, columns, labelled=False)
            yield from (*records.texts, *(records.pairs or ()))
        else:
            for chunk in read_lines(file, _CORPUS_LINES):
                yield from chunk.texts


# === finetune ===


def _finetune_arguments(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(title="tasks", required=True, metavar="TASK")
    classify = tasks.add_parser("classify", help="one label for a text or a pair of texts")
    classify.add_argument("--config", type=Path, help="TOML file with any of these settings; flags win over it")
    for field in dataclasses.fields(FinetuneSettings):
        default = "" if field.default in ("", False) else f" (default: {field.default})"
        options: dict[str, Any] = {"help": field.metadata["help"] + default, "default": argparse.SUPPRESS}
        if isinstance(field.default, bool):
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"], options["metavar"] = type(field.default), type(field.default).__name__.upper()
        classify.add_argument(f"--{flag(field.name)}", **options)


def _finetune(args: argparse.Namespace) -> None:
    settings = read_toml(args.config) if args.config else {}
    names = [field.name for field in dataclasses.fields(FinetuneSettings)]
    settings |= {name: getattr(args, name) for name in names if hasattr(args, name)}
    checked = FinetuneSettings(**settings)
    _load_tensorflow()
    from kbert.tasks.finetuning import finetune_classify

    _print_json(finetune_classify(checked))


# === evaluate, predict ===


def _column_arguments(parser: argparse.ArgumentParser, *, label: bool) -> None:
    parser.add_argument("--text-column", default="", help="column of the text")
    parser.add_argument("--pair-column", default="", help="column of the second text")
    if label:
        parser.add_argument("--label-column", default="", help="column of the label")
    else:
        parser.set_defaults(label_column="")
    parser.add_argument("--batch-size", type=_positive, default=32, help="texts computed at once (default: 32)")
    parser.add_argument("--skip-bad-lines", action="store_true", help="count bad lines and go on")


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="DIR", help="model folder")
    parser.add_argument("file", metavar="FILE", type=Path, help=".tsv, .csv or .jsonl file with labels")
    _column_arguments(parser, label=True)


def _evaluate(args: argparse.Namespace) -> None:
    _load_tensorflow()
    from kbert.tasks.running import evaluate_file

    _print_json(evaluate_file(args.model, args.file, _columns(args), args.batch_size, args.skip_bad_lines))


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="DIR", help="model folder")
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help=".tsv, .csv or .jsonl file, or any other file with one text a line; - reads lines from stdin (default)",
    )
    _column_arguments(parser, label=False)


def _predict(args: argparse.Namespace) -> None:
    _load_tensorflow()
    from kbert.tasks.running import predict_file

    for row in predict_file(args.model, args.file, _columns(args), args.batch_size, args.skip_bad_lines):
        _print_json(row)


def _columns(args: argparse.Namespace) -> Any:
    from kbert.data.readers import Columns

    return Columns(args.text_column or None, args.pair_column or None, args.label_column or None)


# === export, serve, ask ===


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="DIR", help="model folder")
    parser.add_argument("target", metavar="TARGET", type=Path, help="folder of the served model, say saved_models/mood")
    parser.add_argument("--version", type=_positive, default=1, help="the folder's version to write (default: 1)")
    parser.add_argument("--no-verify", action="store_true", help="do not try the result in TensorFlow's C++ loader")


def _export(args: argparse.Namespace) -> None:
    _load_tensorflow()
    from kbert.export.saved_model import check_target, export_saved_model
    from kbert.tasks.running import load_task

    check_target(args.target, args.version)  # before the time that loading takes
    folder = export_saved_model(load_task(args.model), args.target, args.version, verify=not args.no_verify)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    _print_json({"folder": str(folder), "bytes": size, "verified": not args.no_verify})


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="FOLDER", type=Path, help="folder of exported models")
    parser.add_argument("--grpc-port", type=int, default=8500, help="port for gRPC (default: 8500)")
    parser.add_argument("--rest-port", type=int, default=8501, help="port for REST (default: 8501)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")


def _serve(args: argparse.Namespace) -> None:
    _load_tensorflow()
    from kbert.serving.server import ModelServer

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    server = ModelServer(args.root, args.grpc_port, args.rest_port, args.host)
    # Either signal ends the wait; leaving the block lets the requests in flight finish.
    with server, contextlib.suppress(KeyboardInterrupt):
        server.wait()


def _ask_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the served model")
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="texts to ask about")
    parser.add_argument("--pair", action="append", help="second text, once for each TEXT, for a model of text pairs")
    parser.add_argument("--target", default="localhost:8500", help="HOST:PORT, or http://HOST:PORT for REST")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the answer (default: 10)")


def _ask(args: argparse.Namespace) -> None:
    inputs = {"text": args.texts}
    if args.pair is not None:
        if len(args.pair) != len(args.texts):
            raise InputError(f"give --pair once for each text. Received: {len(args.pair)} for {len(args.texts)} texts")
        inputs["text_pair"] = args.pair
    if not args.target.startswith("http://"):
        _load_tensorflow()  # the stubs of the gRPC protocol import it
    from kbert.serving.client import Client, rows

    with Client(args.target, args.timeout) as client:
        for text, row in zip(args.texts, rows(client.predict(args.name, inputs)), strict=True):
            _print_json({"text": text, **row})


# === bench ===


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    claims = parser.add_subparsers(title="claims", required=True, metavar="CLAIM")
    for name, (help, run) in _CLAIMS.items():
        claim = claims.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        claim.add_argument("file", metavar="FILE", help="texts: .tsv, .csv, .jsonl; or one a line (not for train)")
        claim.add_argument("--text-column", default="", help="column of the text")
        if name == "train":
            claim.add_argument("--label-column", default="", help="column of the label")
        if name != "tokenize":
            claim.add_argument("--batch-size", type=_positive, default=32, help="texts at once (default: 32)")
        claim.add_argument("--examples", type=_positive, default=2000, help="texts to take, at random (default: 2000)")
        claim.add_argument("--model", default="minilm-l6-en", help="preset (default: minilm-l6-en)")
        claim.add_argument("--rounds", type=_positive, default=5, help="timed runs of each contender (default: 5)")
        claim.add_argument("--threads", type=_positive, default=os.cpu_count(), help="of each (default: all)")
        claim.add_argument("--chart", type=Path, metavar="FILE.html", help="draw the result as a page of bars")
        claim.set_defaults(claim=run, heading=f"bench {name}")


def _bench(args: argparse.Namespace) -> None:
    from kbert.bench.worker import thread_settings

    os.environ.update(thread_settings(args.threads))  # libraries read it when they are imported
    _load_tensorflow()
    from kbert.bench.report import machine, table, write_chart

    measurements = args.claim(args)
    heading = f"{args.heading} {Path(args.file).name}, {args.model}, {args.threads} threads"
    print(f"{heading}; {machine()}\n{table(measurements)}", file=sys.stderr)
    for measurement in measurements:
        _print_json(dataclasses.asdict(measurement))
    if args.chart:
        write_chart(args.chart, "kbert bench", {heading: measurements})


def _sample(texts: Sequence[Any], examples: int) -> list[Any]:
    return random.Random(0).sample(texts, min(examples, len(texts)))


def _bench_tokenize(args: argparse.Namespace) -> Any:
    from kbert.bench.tokenizing import compare_tokenizers
    from kbert.data.readers import Columns, read_any

    texts = _sample(read_any(args.file, Columns(args.text_column or None)), args.examples)
    return compare_tokenizers(texts, args.model, args.rounds)


def _bench_predict(args: argparse.Namespace) -> Any:
    from kbert.bench.classifying import compare_predictors
    from kbert.data.readers import Columns, read_any

    texts = _sample(read_any(args.file, Columns(args.text_column or None)), args.examples)
    return compare_predictors(texts, args.model, args.batch_size, args.rounds, args.threads)


def _bench_train(args: argparse.Namespace) -> Any:
    from kbert.bench.classifying import compare_trainers
    from kbert.data.readers import Columns, read_texts

    records = read_texts(args.file, Columns(args.text_column or None, label=args.label_column or None))
    assert records.labels is not None
    numbers = {label: i for i, label in enumerate(sorted(set(records.labels)))}
    rows = [(text, numbers[label]) for text, label in zip(records.texts, records.labels, strict=True)]
    texts, labels = zip(*_sample(rows, args.examples), strict=True)
    return compare_trainers(texts, labels, args.model, args.batch_size, args.rounds, args.threads)


_CLAIMS = {
    "tokenize": ("text to word pieces, beside the libraries tokenizers and tf-text", _bench_tokenize),
    "predict": ("text to answer, beside transformers, ONNX Runtime and keras-hub if installed", _bench_predict),
    "train": ("fine-tuning, beside transformers and keras-hub if installed", _bench_train),
}


# === quickstart ===


def _quickstart_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="of the demo data (default: en)")
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="folder of the run")


def _quickstart(args: argparse.Namespace) -> None:
    _load_tensorflow()
    from kbert.quickstart import quickstart

    for row in quickstart(args.language, args.out):
        _print_json(row)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text!r}")
    return int(text)


def _print_json(content: Any) -> None:
    print(json.dumps(content, ensure_ascii=False), flush=True)


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], None]]] = {
    "presets": ("list pretrained models: which for which task and language", _presets_arguments, _presets),
    "vocab": ("learn a vocabulary from text files of your own", _vocab_arguments, _vocab),
    "finetune": ("fine-tune a pretrained model on files of your own", _finetune_arguments, _finetune),
    "evaluate": ("metrics of a model on a labelled file", _evaluate_arguments, _evaluate),
    "predict": ("answers of a model, one JSON object a text", _predict_arguments, _predict),
    "export": ("write a SavedModel that takes strings, for TF Serving", _export_arguments, _export),
    "serve": ("serve exported models on this machine, for development", _serve_arguments, _serve),
    "ask": ("ask a served model", _ask_arguments, _ask),
    "bench": ("measure what this project claims, here, beside its peers", _bench_arguments, _bench),
    "quickstart": (
        "fetch, fine-tune, evaluate, export, serve and ask, in a few minutes",
        _quickstart_arguments,
        _quickstart,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
