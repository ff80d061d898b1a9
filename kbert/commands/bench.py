"""`kbert bench`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kbert.commands.terminal import load_tensorflow, positive, print_json
from kbert.config import SIZES


def bench_arguments(parser: argparse.ArgumentParser) -> None:
    claims = parser.add_subparsers(title="claims", required=True, metavar="CLAIM")
    for name, (help, run) in _CLAIMS.items():
        claim = claims.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        claim.add_argument("file", metavar="FILE", help="texts: .tsv, .csv, .jsonl; or one a line (not for train)")
        claim.add_argument("--text-column", default="", help="column of the text")
        if name == "train":
            claim.add_argument("--label-column", default="", help="column of the label")
        if name in ("predict", "train", "flops"):
            claim.add_argument("--batch-size", type=positive, default=32, help="texts at once (default: 32)")
        if name == "serve":
            claim.add_argument("--clients", type=positive, default=32, help="that ask at a time (default: 32)")
            claim.add_argument("--seconds", type=positive, default=60, help="of load for each server (default: 60)")
        if name != "tokenize":
            claim.add_argument("--size", default="", choices=tuple(SIZES), help="a BERT of this size, drawn at random")
        if name in ("predict", "train", "serve"):
            claim.add_argument("--only", default="", metavar="NAME[,NAME]", help="contenders to run, as the table says")
        claim.add_argument("--examples", type=positive, default=2000, help="texts to take, at random (default: 2000)")
        claim.add_argument("--model", default="minilm-l6-en", help="preset or folder (default: minilm-l6-en)")
        claim.add_argument("--rounds", type=positive, default=5, help="timed runs of each contender (default: 5)")
        claim.add_argument("--threads", type=positive, default=os.cpu_count(), help="of each (default: all)")
        claim.add_argument("--chart", type=Path, metavar="FILE.html", help="draw the result as a page of bars")
        claim.set_defaults(claim=run, heading=f"bench {name}")


def bench(args: argparse.Namespace) -> None:
    from kbert.bench.worker import thread_settings

    os.environ.update(thread_settings(args.threads))  # libraries read it when they are imported
    load_tensorflow()
    from kbert.bench.report import machine, table, write_chart

    measurements = args.claim(args)
    model = f"{args.model}'s vocabulary, size {args.size}" if getattr(args, "size", "") else args.model
    heading = f"{args.heading} {Path(args.file).name}, {model}, {args.threads} threads"
    print(f"{heading}; {machine()}\n{table(measurements)}", file=sys.stderr)
    for measurement in measurements:
        print_json(dataclasses.asdict(measurement))
    if args.chart:
        write_chart(args.chart, "kbert bench", {heading: measurements})


def _sample(texts: Sequence[Any], examples: int) -> list[Any]:
    return random.Random(0).sample(texts, min(examples, len(texts)))


def _texts(args: argparse.Namespace) -> list[str]:
    from kbert.data.readers import Columns, read_corpus

    columns = Columns(args.text_column or None)
    return _sample([text for text in read_corpus([args.file], columns) if text.strip()], args.examples)


def _bench_tokenize(args: argparse.Namespace) -> Any:
    from kbert.bench.tokenizing import compare_tokenizers

    texts = _texts(args)
    return compare_tokenizers(texts, args.model, args.rounds)


def _bench_predict(args: argparse.Namespace) -> Any:
    from kbert.bench.classifying import compare_predictors
    from kbert.bench.models import classifier_folder

    texts = _texts(args)
    with classifier_folder(args.model, args.size) as folder:
        return compare_predictors(texts, folder, args.batch_size, args.rounds, args.threads, _only(args))


def _bench_train(args: argparse.Namespace) -> Any:
    from kbert.bench.classifying import compare_trainers
    from kbert.bench.models import classifier_folder
    from kbert.data.readers import Columns, read_texts

    records = read_texts(args.file, Columns(args.text_column or None, label=args.label_column or None))
    assert records.labels is not None
    numbers = {label: i for i, label in enumerate(sorted(set(records.labels)))}
    rows = [(text, numbers[label]) for text, label in zip(records.texts, records.labels, strict=True)]
    texts, labels = zip(*_sample(rows, args.examples), strict=True)
    with classifier_folder(args.model, args.size, len(numbers)) as folder:
        return compare_trainers(texts, labels, folder, args.batch_size, args.rounds, args.threads, _only(args))


def _bench_serve(args: argparse.Namespace) -> Any:
    from kbert.bench.models import classifier_folder
    from kbert.bench.serving import compare_servers

    texts = _texts(args)
    with classifier_folder(args.model, args.size) as folder:
        return compare_servers(texts, folder, args.clients, args.seconds, args.rounds, args.threads, _only(args))


def _bench_flops(args: argparse.Namespace) -> Any:
    from kbert.bench.flops import compare_flops
    from kbert.bench.models import classifier_folder

    texts = _texts(args)
    with classifier_folder(args.model, args.size) as folder:
        return compare_flops(texts, folder, args.batch_size, args.rounds, args.threads)


def _only(args: argparse.Namespace) -> list[str]:
    return [name.strip() for name in args.only.split(",") if name.strip()]


_CLAIMS = {
    "tokenize": ("text to word pieces, beside the libraries tokenizers and tf-text", _bench_tokenize),
    "predict": ("text to answer, beside transformers, ONNX Runtime and keras-hub if installed", _bench_predict),
    "train": ("fine-tuning, beside transformers and keras-hub if installed", _bench_train),
    "serve": ("requests of many clients at once, beside FastAPI with transformers if installed", _bench_serve),
    "flops": ("useful operations per second of predict and fit, beside bare matrix products", _bench_flops),
}
