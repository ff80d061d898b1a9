"""Pretrains a tiny model on a number of devices, for `train_on.py`: rows of pairs, masked share by share."""

from __future__ import annotations

import numpy as np

STEPS_PER_EPOCH = 5


def rows(examples, max_length, pad_id):
    """49 rows as `kbert.data.sequences` gives them: [CLS] words [SEP] words [SEP], some words of two tokens."""
    texts, labels, random = examples
    lengths = np.array([len(text.split()) + 3 for text in texts])
    token_ids = random.integers(5, 16, (len(texts), max_length)).astype("int32")
    places = np.arange(max_length)
    middle = lengths[:, None] // 2
    token_ids[:, 0], token_ids[(places == middle) | (places == lengths[:, None] - 1)] = 2, 3
    padding_mask = (places < lengths[:, None]).astype("int32")
    token_ids[padding_mask == 0] = pad_id
    return {
        "token_ids": token_ids,
        "segment_ids": (places > middle).astype("int32") * padding_mask,
        "padding_mask": padding_mask,
        "word_starts": (random.random(token_ids.shape) < 0.7) & (token_ids >= 5),
        "pair_label": labels % 2,
    }


def share_of(columns, share):
    """A replica's rows of a batch, as long as its own longest, and their numbers."""
    width = max(int(columns["padding_mask"][share].sum(1).max(initial=0)), 1)
    cut = {name: values[share] if values.ndim == 1 else values[share, :width] for name, values in columns.items()}
    return cut | {"rows": share}


def pretrain(strategy, parts, train_on):
    """30 steps of 12 rows, but one in each epoch of a single row; returns the model and Keras' history."""
    import keras
    import tensorflow as tf

    from kbert.checkpoints.checkpoint import Checkpoint
    from kbert.data.batching import distributed, training_order
    from kbert.data.masking import Masking, MaskTokens
    from kbert.pretraining.model import PretrainingModel
    from kbert.training.optimizers import LinearWarmupDecay, adamw

    tokenizer = train_on.tokenizer()
    columns = rows(train_on.examples(), train_on.MAX_LENGTH, tokenizer.pad_id)
    lengths = columns["padding_mask"].sum(1)
    mask = MaskTokens(Masking(rate=0.3, unit="span"), tokenizer, train_on.SEED)

    def shares(shares):
        def generate():
            for epoch in range(train_on.EPOCHS):
                for share in shares.rows(training_order(lengths, train_on.BATCH, train_on.SEED, epoch)):
                    yield share_of(columns, share) | {"epoch": np.int64(epoch)}

        example = next(generate())
        signature = {name: tf.TensorSpec([None] * value.ndim, value.dtype) for name, value in example.items()}

        @tf.autograph.experimental.do_not_convert
        def masked(batch):
            return mask(batch, batch["rows"], batch["epoch"])

        return tf.data.Dataset.from_generator(generate, output_signature=signature).map(masked)

    with strategy.scope():
        keras.utils.set_random_seed(6)
        start = Checkpoint(train_on.config(), tokenizer.config, train_on.VOCABULARY, {})
        model = PretrainingModel.from_checkpoint(start, "sop")
        steps = STEPS_PER_EPOCH * train_on.EPOCHS
        schedule = LinearWarmupDecay(0.01, steps, steps // 10)
        model.compile(adamw(model.trainable_variables, schedule), gradient_accumulation_steps=parts)
    dataset = distributed(strategy, shares)
    sizes = {"epochs": train_on.EPOCHS, "steps_per_epoch": STEPS_PER_EPOCH}
    return model, model.fit(dataset, **sizes, shuffle=False, verbose=0)
