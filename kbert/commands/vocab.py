"""`kbert vocab`."""

from __future__ import annotations

import argparse
from pathlib import Path

from kbert.commands.terminal import load_tensorflow, positive, print_json
from kbert.errors import InputError


def vocab_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "corpus",
        metavar="CORPUS",
        nargs="+",
        help="text file, or .tsv, .csv or .jsonl file, of which the texts are read, plain or .gz; - reads stdin",
    )
    parser.add_argument("--size", type=positive, default=30_000, help="tokens to learn (default: 30000)")
    parser.add_argument(
        "--out", type=Path, required=True, help="file to write, one token a line; one that holds something else stays"
    )
    parser.add_argument("--cased", action="store_true", help="keep upper case and accents")
    parser.add_argument(
        "--min-frequency",
        type=positive,
        default=2,
        help="least occurrences of a character or of a pair of pieces that becomes one (default: 2)",
    )
    parser.add_argument("--text-column", default="", help="column of the text")
    parser.add_argument("--pair-column", default="", help="column of the second text")


def vocab(args: argparse.Namespace) -> None:
    from kbert.data.readers import FORMATS, Columns, read_corpus, table_format

    for file in args.corpus:
        if file != "-" and not Path(file).exists():
            raise InputError(f"{file} does not exist")
    if args.out.is_dir():
        raise InputError(f"{args.out} is a folder: name the file to write with --out")
    if (args.text_column or args.pair_column) and not any(table_format(Path(file)) for file in args.corpus):
        raise InputError(f"no CORPUS has columns: use {', '.join(FORMATS)} to name some")
    load_tensorflow()
    from kbert.config import TokenizerConfig
    from kbert.files import replaced_files
    from kbert.tokenization.learning import learn_vocabulary

    with replaced_files(args.out.parent, args.out.name) as partial:  # before the time that learning takes
        columns = Columns(args.text_column or None, args.pair_column or None)
        config = TokenizerConfig(do_lower_case=not args.cased)
        learnt = learn_vocabulary(read_corpus(args.corpus, columns), args.size, config, args.min_frequency)
        content = "".join(token + "\n" for token in learnt.tokens).encode()
        if args.out.exists() and args.out.read_bytes() != content:
            raise InputError(f"{args.out} exists and holds something else: remove it, or name another file with --out")
        (partial / args.out.name).write_bytes(content)
    print_json(
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
