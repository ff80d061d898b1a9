"""What grouping by length does to the order of an epoch: padding saved, and how near to a random order it stays.

    python tests/benchmarks/shuffling.py FILE [--batch-size 32] [--epochs 10]

FILE is a table of texts, such as SST-2's train.tsv. Compared are kbert's order (`training_order`), a random one, and
one sorted by length whose batches are shuffled, which saves the most padding there is. Over all epochs:

- padded/real: tokens of the padded batches by real ones, and in how many shapes they come; then the same where the
  lengths are rounded up for XLA (`few_lengths`);
- correlation: of a batch's place in the epoch with its mean length, in size;
- spread: standard deviation of the mean length over windows of 50 batches, as a multiple of the random order's;
- meetings: how often two examples of a batch meet again in a batch of the next epoch, as a multiple of the random
  order's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

import kbert
from kbert.data.batching import few_lengths, training_order
from kbert.data.readers import read_texts

WINDOW = 50  # batches
Epoch = list[np.ndarray]


def random_order(lengths: np.ndarray, batch_size: int, epoch: int) -> Epoch:
    """Examples shuffled, and cut into batches."""
    order = np.random.default_rng((0, epoch)).permutation(len(lengths))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def sorted_order(lengths: np.ndarray, batch_size: int, epoch: int) -> Epoch:
    """Examples sorted by length, those of the same length shuffled, and the batches shuffled."""
    random = np.random.default_rng((0, epoch))
    order = np.lexsort((random.random(len(lengths)), lengths))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def padding(epochs: list[Epoch], lengths: np.ndarray, rounded: list[int] | None = None) -> tuple[float, int]:
    """Tokens of padded batches by real ones, and the number of different shapes."""
    padded, shapes = 0, set()
    for batch in (batch for epoch in epochs for batch in epoch):
        length = int(lengths[batch].max())
        if rounded is not None:
            length = rounded[np.searchsorted(rounded, length)]
        padded += len(batch) * length
        shapes.add((len(batch), length))
    return padded / (len(epochs) * lengths.sum()), len(shapes)


def correlation(epochs: list[Epoch], lengths: np.ndarray) -> float:
    """Mean over the epochs of the size of the correlation of place and mean length of a batch."""
    means = [[lengths[batch].mean() for batch in epoch] for epoch in epochs]
    return float(np.mean([abs(np.corrcoef(range(len(row)), row)[0, 1]) for row in means]))


def spread(epochs: list[Epoch], lengths: np.ndarray) -> float:
    """Standard deviation of the mean length of an example over windows of an epoch."""
    windows = [epoch[i : i + WINDOW] for epoch in epochs for i in range(0, len(epoch) - WINDOW + 1, WINDOW)]
    return float(np.std([lengths[np.concatenate(window)].mean() for window in windows]))


def meetings(epochs: list[Epoch]) -> float:
    """Of the pairs that are in one batch, the share that are in one again in the next epoch."""
    met = pairs = 0
    for before, after in itertools.pairwise(epochs):
        batch_of = np.empty(sum(map(len, after)), int)
        for number, batch in enumerate(after):
            batch_of[batch] = number
        for batch in before:
            _, counts = np.unique(batch_of[batch], return_counts=True)
            met += (counts * (counts - 1)).sum()
            pairs += len(batch) * (len(batch) - 1)
    return met / pairs


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--preset", default="minilm-l6-en", help="whose tokenizer counts the tokens")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--max-length", type=int, default=128)
    args = parser.parse_args()
    tokens = kbert.BertTokenizer.from_preset(args.preset).tokenize(read_texts(args.file, labelled=False).texts)
    lengths = np.minimum(tokens.row_lengths().numpy() + 2, args.max_length)
    orders = {
        "random": random_order,
        "kbert": lambda *key: training_order(key[0], key[1], 0, key[2]),
        "sorted": sorted_order,
    }
    found = {}
    for name, order in orders.items():
        epochs = [order(lengths, args.batch_size, epoch) for epoch in range(args.epochs)]
        plain, rounded = padding(epochs, lengths), padding(epochs, lengths, few_lengths(args.max_length))
        found[name] = {
            "padded/real": plain[0],
            "shapes": plain[1],
            "for XLA padded/real": rounded[0],
            "for XLA shapes": rounded[1],
            "correlation": correlation(epochs, lengths),
            "spread": spread(epochs, lengths),
            "meetings": meetings(epochs),
        }
        print(json.dumps({"order": name, **found[name]}), flush=True)
    for name in ("spread", "meetings"):
        base = found["random"][name]
        for row in found.values():
            row[name] /= base
    batches = -(-len(lengths) // args.batch_size)
    print(
        f"{len(lengths)} texts, {batches} batches; a random correlation is {np.sqrt(2 / np.pi / batches):.3f} in size"
    )
    print("| | " + " | ".join(found) + " |\n|---" + "|---" * len(found) + "|")
    for name in found["kbert"]:
        print(f"| {name} | " + " | ".join(f"{row[name]:.4g}" for row in found.values()) + " |")


if __name__ == "__main__":
    main()
