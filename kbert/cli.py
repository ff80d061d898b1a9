"""The command line: one thin command per verb. Results go to stdout as JSON, everything else to stderr.

Only the standard library and the plain dataclasses of settings are imported at the top, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from kbert import __version__
from kbert.commands import bench, models, pretrain, serving, vocab
from kbert.errors import InputError


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


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], None]]] = {
    "presets": ("list pretrained models: which for which task and language", models.presets_arguments, models.presets),
    "vocab": ("learn a vocabulary from text files of your own", vocab.vocab_arguments, vocab.vocab),
    "pretrain": ("pretrain a model on text files of your own", pretrain.pretrain_arguments, pretrain.pretrain),
    "finetune": ("fine-tune a pretrained model on files of your own", models.finetune_arguments, models.finetune),
    "evaluate": ("metrics of a model on a labelled file", models.evaluate_arguments, models.evaluate),
    "predict": ("answers of a model, one JSON object a text", models.predict_arguments, models.predict),
    "export": (
        "write a SavedModel that takes strings, for TF Serving, or a LiteRT file for phones",
        models.export_arguments,
        models.export,
    ),
    "serve": ("serve exported models on this machine, for development", serving.serve_arguments, serving.serve),
    "ask": ("ask a served model", serving.ask_arguments, serving.ask),
    "bench": ("measure what this project claims, here, beside its peers", bench.bench_arguments, bench.bench),
    "quickstart": (
        "fetch, fine-tune, evaluate, export, serve and ask, in a few minutes",
        models.quickstart_arguments,
        models.quickstart,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
