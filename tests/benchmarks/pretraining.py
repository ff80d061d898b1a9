"""Pretraining steps of a masked LM: kbert beside transformers' recipe (examples/pytorch/language-modeling/run_mlm.py).

    python tests/benchmarks/pretraining.py CORPUS.txt --vocab vocab.txt [--size tiny] [--length 128] [--batch-size 32]
        [--steps 50] [--rounds 5] [--threads N] [--only kbert …]

Needs torch, transformers and accelerate for the peers. All contenders read the same lines of the corpus with the same
vocabulary, hide 15 % of the tokens anew in each epoch, and train a fresh masked LM of the same size, batches of the
same number of rows, AdamW, clipping to 1 and dropout on. There are two kinds of rows:

- lines: each line a row, cut at `--length` (run_mlm's --line_by_line). transformers pads a batch, which is drawn at
  random, to its longest row; kbert batches rows of like length and computes on real tokens alone.
- grouped: the lines one after another, cut into rows of exactly `--length` tokens (run_mlm's default): no padding.

A run is an epoch over `--steps` batches, hiding tokens included. Rates count useful tokens: all but padding.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kbert.bench.entries import Entry, chosen
from kbert.bench.report import table
from kbert.bench.timing import Contender, compare
from kbert.bench.worker import start
from kbert.config import SIZES, BertConfig, TokenizerConfig

RATE, LEARNING_RATE = 0.15, 1e-4
_TORCH = ("torch", "transformers", "accelerate")
ENTRIES = (
    Entry("transformers lines", "pretraining:transformers_epochs", {"grouped": False}, _TORCH, "padded to the batch"),
    Entry("transformers grouped", "pretraining:transformers_epochs", {"grouped": True}, _TORCH),
    Entry("kbert lines", "pretraining:kbert_epochs", {"grouped": False}),
    Entry("kbert grouped", "pretraining:kbert_epochs", {"grouped": True}),
)


def rows_of(lines: list[list[int]], length: int, count: int, grouped: bool) -> list[list[int]]:
    """The first rows of a corpus.

    Args:
        lines: token ids of each line, special tokens included.
        length: longest row in tokens.
        count: of the rows.
        grouped: whether lines are put together.
    """
    if not grouped:
        return [line if len(line) <= length else [*line[: length - 1], line[-1]] for line in lines][:count]
    ids = [token for line in lines for token in line]
    return [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)][:count]


def vocabulary_of(path: str) -> tuple[str, ...]:
    """The tokens of a vocab.txt."""
    return tuple(Path(path).read_text(encoding="utf8").rstrip("\n").split("\n"))


# === In a worker ===


def kbert_epochs(
    vocab: str, size: str, rows: list[list[int]], length: int, batch_size: int, grouped: bool, threads: int
) -> Callable[[], Any]:
    """kbert's model on batches of like length."""
    import tensorflow as tf

    from kbert.checkpoints.checkpoint import Checkpoint
    from kbert.data.batching import Rows, training_order
    from kbert.data.masking import Masking, MaskTokens
    from kbert.pretraining.model import PretrainingModel
    from kbert.training.optimizers import adamw

    vocabulary = vocabulary_of(vocab)
    model = PretrainingModel.from_checkpoint(
        Checkpoint(BertConfig.of_size(size, len(vocabulary)), TokenizerConfig(), vocabulary, {})
    )
    model.compile(adamw(model.trainable_variables, LEARNING_RATE))
    ragged = tf.ragged.constant(rows, tf.int32)
    data = Rows(ragged, tf.zeros_like(ragged), model.tokenizer.pad_id)
    begins = tf.constant([not token.startswith("##") for token in vocabulary])
    mask = MaskTokens(Masking(rate=RATE, unit="token"), model.tokenizer)
    epochs = iter(range(2**31))

    def indices():
        epoch = next(epochs)
        for index in training_order(data.lengths(), batch_size, 0, epoch):
            yield index, epoch

    @tf.autograph.experimental.do_not_convert
    def batch(index, epoch):
        features = data.features(index)
        features["word_starts"] = tf.gather(begins, features["token_ids"])
        return mask(features, index, epoch)

    signature = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64))
    dataset = tf.data.Dataset.from_generator(indices, output_signature=signature)
    dataset = dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)

    def run() -> None:
        found = model.fit(dataset, shuffle=False, verbose=0)
        check_finite(found.history["loss"][0])

    return run


def transformers_epochs(
    vocab: str, size: str, rows: list[list[int]], length: int, batch_size: int, grouped: bool, threads: int
) -> Callable[[], Any]:
    """transformers' Trainer with its collator, as run_mlm.py sets them up."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.BertTokenizer(vocab)
    ours = BertConfig.of_size(size, len(vocabulary_of(vocab)))
    config = transformers.BertConfig(
        vocab_size=ours.vocabulary_size,
        hidden_size=ours.hidden_dim,
        num_hidden_layers=ours.num_layers,
        num_attention_heads=ours.num_heads,
        intermediate_size=ours.intermediate_dim,
    )
    special = set(tokenizer.all_special_ids)
    examples = [{"input_ids": row, "special_tokens_mask": [int(token in special) for token in row]} for row in rows]
    with tempfile.TemporaryDirectory() as scratch:
        settings = transformers.TrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=batch_size,
            learning_rate=LEARNING_RATE,
            weight_decay=0.01,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,  # the model does not read the mask of special tokens, but the collator does
        )
    trainer = transformers.Trainer(
        model=transformers.BertForMaskedLM(config),
        args=settings,
        train_dataset=examples,
        data_collator=transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=RATE),
    )

    def run() -> None:
        check_finite(trainer.train().training_loss)

    return run


def check_finite(loss: float) -> None:
    """A figure for steps that learn nothing would be none."""
    if not np.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")


# === The command ===


def lines_of(args: argparse.Namespace) -> list[list[int]]:
    """The token ids of the corpus's lines, as many as the longest run needs."""
    from kbert.tokenization.tokenizer import BertTokenizer

    tokenizer = BertTokenizer(vocabulary_of(args.vocab), TokenizerConfig())
    wanted = args.steps * args.batch_size * args.length
    with open(args.corpus, encoding="utf8") as file:
        texts = [line.strip() for line in file if line.strip()]
    found: list[list[int]] = []
    tokens = 0
    for i in range(0, len(texts), 1000):
        ids = tokenizer.tokenize(texts[i : i + 1000]).to_list()
        found += [[tokenizer.cls_id, *line, tokenizer.sep_id] for line in ids]
        tokens += sum(map(len, found[i : i + 1000]))
        if tokens >= wanted and len(found) >= args.steps * args.batch_size:
            break
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="a text file")
    parser.add_argument("--vocab", required=True, help="one token a line, lower-case")
    parser.add_argument("--size", choices=tuple(SIZES), default="tiny")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50, help="of a run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", default=())
    args = parser.parse_args()
    # The workers import this file as `pretraining`.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    lines, count = lines_of(args), args.steps * args.batch_size
    common = {name: getattr(args, name) for name in ("vocab", "size", "length", "batch_size")}
    with ExitStack() as stack:
        contenders = []
        for entry in chosen(ENTRIES, args.only):
            rows = rows_of(lines, args.length, count, entry.settings["grouped"])
            if len(rows) < count:
                sys.exit(f"{args.corpus} gives {len(rows)} rows, {count} are needed: lower --steps or --batch-size")
            worker = start(stack, entry.function, {**common, **entry.settings, "rows": rows}, args.threads)
            contenders.append(Contender(entry.name, worker.run, entry.note, float(sum(map(len, rows)))))
        found = compare(contenders, 0, "tokens/s", args.rounds, "pretraining")
    print(f"{args.size}, {args.batch_size} x {args.length}, {args.threads} threads\n{table(found)}", file=sys.stderr)
    for measurement in found:
        row = {name: getattr(args, name) for name in ("size", "batch_size", "length", "steps", "threads")}
        print(json.dumps(row | asdict(measurement)), flush=True)


if __name__ == "__main__":
    main()
