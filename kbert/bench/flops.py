"""How much of what the machine can multiply is useful work: inference and training against bare matrix products."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from kbert.bench.timing import Contender, Measurement, compare
from kbert.bench.worker import start
from kbert.config import BertConfig
from kbert.errors import InputError

_TRAINING = 3  # a forward pass, and the gradients by the inputs and by the weights of every product


def useful_flops(config: BertConfig, lengths: Sequence[int], first_token_only: bool = False) -> int:
    """Floating-point operations of the encoder's matrix products on real tokens, forward; a multiply-add counts two.

    Counted are, for a row of t tokens and each layer, query, key, value and output (8 t D²), the scores and their sum
    of values (4 t² D), and feed-forward (4 t D I); besides the projection of factorised embeddings and the pooler. Not
    counted are padding, whatever is no matrix product (embeddings, norms, softmax, activations, dropout), and heads.

    Args:
        config: The encoder.
        lengths: Real tokens of each row.
        first_token_only: As in the encoder's `call`: what the last layer need not compute is not counted.

    Raises:
        InputError: The config is that of another encoder than BERT's.
    """
    if config.encoder_type != "transformer":
        raise InputError(f"operations are counted for BERT's own encoder, not for {config.encoder_type!r}")
    D, I = config.hidden_dim, config.intermediate_dim  # noqa: E741
    total = 0
    for t in map(int, lengths):
        total += config.num_layers * (8 * t * D**2 + 4 * t**2 * D + 4 * t * D * I)
        if first_token_only:
            total -= (t - 1) * (4 * D**2 + 4 * t * D + 4 * D * I)  # all but keys and values, but for one token
        total += 2 * t * (config.embedding_dim or 0) * D + 2 * D**2
    return total


def compare_flops(texts: Sequence[str], folder: str, batch_size: int, rounds: int, threads: int) -> list[Measurement]:
    """Useful operations per second of kbert's inference and training, against those of TensorFlow's matrix products.

    The products are the model's: float32, of as many rows as a batch has real tokens, R: [R, D] x [D, 3 D],
    [R, D] x [D, D], [R, D] x [D, I] and [R, I] x [I, D].

    Args:
        texts: What to compute on.
        folder: A classifier.
        batch_size: Texts computed at once.
        rounds: Timed runs of each.
        threads: That each may use.
    """
    import kbert
    from kbert.checkpoints import presets

    checkpoint = presets.load(folder, weights=False)
    assert checkpoint.task is not None
    tokens = kbert.BertTokenizer(checkpoint.vocabulary, checkpoint.tokenizer).tokenize(list(texts))
    lengths = np.minimum(tokens.row_lengths().numpy() + 2, checkpoint.task.max_length)
    inference = useful_flops(checkpoint.config, lengths, first_token_only=True)
    shapes = product_shapes(checkpoint.config, round(batch_size * lengths.mean()))
    repeats = max(1, round(inference / product_flops(shapes)))
    common = {"folder": folder, "texts": list(texts), "batch_size": batch_size}
    contenders = (
        ("matrix products", "kbert.bench.flops:multiply", {"shapes": shapes, "repeats": repeats}, "in TensorFlow"),
        ("kbert predict", "kbert.bench.classifying:kbert_predict", {**common, "engine": None}, "text to answer"),
        *(
            [("kbert LiteRT", "kbert.bench.classifying:kbert_predict", {**common, "engine": "none"}, "text to answer")]
            if importlib.util.find_spec("ai_edge_litert")
            else []
        ),
        (
            "kbert fit",
            "kbert.bench.classifying:kbert_train",
            {**common, "labels": [i % 2 for i in range(len(texts))]},
            "text to trained weights; three times the forward pass is counted",
        ),
    )
    amounts = {"matrix products": repeats * product_flops(shapes), "kbert fit": _TRAINING * inference}
    with ExitStack() as stack:
        entries = [
            Contender(name, start(stack, function, arguments, threads).run, note, amounts.get(name, inference) / 1e9)
            for name, function, arguments, note in contenders
        ]
        return compare(entries, 0, "GFLOP/s", rounds, "timing")


def product_shapes(config: BertConfig, rows: int) -> list[tuple[int, int, int]]:
    """The dense products of a layer, (m, k, n) for [m, k] x [k, n]."""
    D, I = config.hidden_dim, config.intermediate_dim  # noqa: E741
    return [(rows, D, 3 * D), (rows, D, D), (rows, D, I), (rows, I, D)]


def product_flops(shapes: Sequence[tuple[int, int, int]]) -> int:
    """Operations of all the products, a multiply-add counted as two."""
    return sum(2 * m * k * n for m, k, n in shapes)


# === In a worker ===


def multiply(shapes: Sequence[tuple[int, int, int]], repeats: int, threads: int) -> Callable[[], Any]:
    """Bare matrix products in float32, all of them `repeats` times."""
    import tensorflow as tf

    pairs = [(tf.random.normal((m, k)), tf.random.normal((k, n))) for m, k, n in shapes]

    def run():
        for _ in range(repeats):
            products = [tf.matmul(a, b) for a, b in pairs]
        return products[-1].numpy()  # waits until a GPU is done

    return run
