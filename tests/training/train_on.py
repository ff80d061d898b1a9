"""Trains tiny models on one, two and three logical CPUs and keeps their weights: `python train_on.py 2|3 FOLDER`.

A process of its own, because logical CPUs must be made before TensorFlow starts.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import numpy as np

BATCH, LABELS, MAX_LENGTH, SEED, EPOCHS = 12, ("x", "y", "z"), 16, 1, 6
CLASS_WEIGHT = {"x": 0.5, "y": 1.0, "z": 2.5}
WORDS = "good bad film plot was the a not very dull fine".split()
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)


def examples():
    """49 texts of 1 to 13 words: four batches of twelve, and one of a single example, which comes first."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, random.integers(1, 14))) for _ in range(49)]
    return texts, random.integers(0, len(LABELS), 49).astype(np.int32), random


def token_labels(texts, random):
    """A label per token, int32 [49, MAX_LENGTH]; -1 for padding and for what is to be ignored, in some texts all."""
    labels = random.integers(-1, 4, (49, MAX_LENGTH)).astype(np.int32)
    lengths = np.array([len(text.split()) + 2 for text in texts])
    labels[np.arange(MAX_LENGTH) >= lengths[:, None]] = -1
    labels[::7] = -1
    return labels


def config(**changes):
    from kbert.config import BertConfig

    return BertConfig(
        vocabulary_size=len(VOCABULARY),
        num_layers=2,
        num_heads=3,
        hidden_dim=12,
        intermediate_dim=37,
        max_sequence_length=29,
        num_segments=2,
        initializer_range=0.4,
        **{"dropout_rate": 0.0, "attention_dropout_rate": 0.0, **changes},
    )


@functools.cache
def tokenizer():
    import kbert
    from kbert.config import TokenizerConfig

    return kbert.BertTokenizer(VOCABULARY, TokenizerConfig())


def classifier(strategy, **changes):
    import keras

    import kbert
    from kbert.config import ClassifyConfig

    with strategy.scope():
        keras.utils.set_random_seed(3)
        task = ClassifyConfig(labels=LABELS, max_length=MAX_LENGTH)
        return kbert.BertTextClassifier(kbert.BertEncoder(config(**changes)), tokenizer(), task)


def adversarial_classifier(strategy):
    """A classifier whose word embeddings are moved in training."""
    from kbert.training import steps
    from kbert.training.adversarial import FGM

    model = classifier(strategy)
    move = FGM(model.encoder.embeddings.word.embeddings, epsilon=0.5)
    model.train_step = lambda data: steps.train_step(model, data, model._parts, gradients=move)
    return model


def token_tagger(strategy):
    import keras
    import tensorflow as tf

    import kbert
    from kbert.config import ClassifyConfig
    from kbert.tasks.task import Task
    from kbert.tasks.task_model import Examples

    class TokenTagger(Task):
        """Four labels, of which -1 is none: one per token, so that a batch has any number of items."""

        def __init__(self, *args):
            super().__init__(*args)
            self.head = keras.layers.Dense(4, name="head")
            self.head.build((None, None, 12))
            self.built = True

        def call(self, inputs):
            return self.head(self.encoder(inputs)["sequence_output"])

        def default_loss(self):
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        def default_metrics(self):
            return []

        def examples(self, columns, y):
            return Examples(self._rows(columns), y, np.arange(len(y)))

        def item_weights(self, y, sample_weight):
            return tf.cast(y >= 0, tf.float32)

        def item_losses(self, y, y_pred):
            T = tf.shape(y_pred)[1]
            losses = self.loss.call(tf.maximum(y[:, :T], 0), y_pred)
            return tf.pad(losses, [[0, 0], [0, MAX_LENGTH - T]])

    with strategy.scope():
        keras.utils.set_random_seed(4)
        task = ClassifyConfig(labels=LABELS, max_length=MAX_LENGTH)
        return TokenTagger(kbert.BertEncoder(config()), tokenizer(), task)


def keep(model, fitted, path: Path) -> None:
    np.savez(path, **{v.path.split("/", 1)[1]: v.numpy() for v in model.trainable_variables})
    path.with_suffix(".json").write_text(json.dumps(fitted.history))


def train(model, y, parts, **kwargs):
    texts, _, _ = examples()
    model.compile(learning_rate=0.01)
    sizes = {"batch_size": BATCH // parts, "gradient_accumulation_steps": parts}
    return model.fit(texts, y, **sizes, epochs=EPOCHS, seed=SEED, verbose=0, **kwargs)


def evaluate(model, classes, fitted):
    texts, _, _ = examples()
    evaluated = model.evaluate(texts, classes, batch_size=5, verbose=0)
    fitted.history |= {f"evaluated_{name}": [value] for name, value in evaluated.items()}
    fitted.history["scores"] = model.predict(texts)["score"].tolist()


def other_task(name, strategy):
    """A model of another task, and what it learns: texts and labels."""
    import keras

    import kbert

    texts, _, random = examples()
    limit = {"max_length": MAX_LENGTH}
    first_words = [text.split()[0] for text in texts]
    with strategy.scope():
        keras.utils.set_random_seed(5)
        encoder = kbert.BertEncoder(config())
        if name == "regression":
            task = kbert.ClassifyConfig(problem="regression", **limit)
            return kbert.BertTextClassifier(encoder, tokenizer(), task), texts, random.normal(size=49)
        if name == "answer":
            answers = [[(word, 0)] if i % 5 else [] for i, word in enumerate(first_words)]
            task = kbert.AnswerConfig(no_answer=True, **limit)
            return kbert.BertQuestionAnswerer(encoder, tokenizer(), task), (["good"] * 49, texts), answers
        entities = [[(0, len(word), "THING")] if i % 4 else [] for i, word in enumerate(first_words)]
        task = kbert.TagConfig(labels=("O", "B-THING", "I-THING"), head="crf", **limit)
        return kbert.BertTokenClassifier(encoder, tokenizer(), task), texts, entities


def train_other(name, strategy, parts):
    model, x, y = other_task(name, strategy)
    model.compile(learning_rate=0.0005 if name == "crf" else 0.01)
    sizes = {"batch_size": BATCH // parts, "gradient_accumulation_steps": parts}
    return model, model.fit(x, y, **sizes, epochs=EPOCHS, seed=SEED, verbose=0)


def train_on_strings(model, parts):
    """A tf.data with weights of examples, and an optimizer and a metric of Keras'."""
    import keras
    import tensorflow as tf

    texts, classes, random = examples()
    slices = (texts, [LABELS[label] for label in classes], random.random(49).astype(np.float32))
    dataset = tf.data.Dataset.from_tensor_slices(slices).batch(BATCH // parts)
    model.compile(
        keras.optimizers.SGD(0.1), weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="weighted")]
    )
    return model.fit(dataset, epochs=2, verbose=0, gradient_accumulation_steps=parts, class_weight={1: 3})


def dropout_between_devices(strategy) -> dict[str, float]:
    """How far the outputs of two devices lie apart for the same texts, in and outside of training."""
    import tensorflow as tf

    from kbert.training.replicas import own_dropout

    model = classifier(strategy, dropout_rate=0.3)
    features = model.features(["good film", "the plot"])
    run = tf.function(lambda: strategy.run(lambda: model(features, training=True)), autograph=False)

    def difference():
        one, two = strategy.experimental_local_results(run())
        return float(tf.reduce_max(tf.abs(one - two)))

    found = {"before": difference()}
    with own_dropout(model):
        found["in training"] = difference()
    return found | {"after": difference()}


# By the number of logical CPUs: (devices, gradient_accumulation_steps). A process has one number of devices above 1.
RUNS = {
    2: {
        "classify": ((1, 1), (2, 1)),
        "adversarial": ((1, 1),),
        "tag": ((1, 1),),
        "strings": ((1, 2), (2, 2)),
        "others": ((1, 1), (2, 4)),
        "pretrain": ((1, 1), (1, 4), (2, 1)),
    },
    3: {
        "classify": ((3, 4),),
        "adversarial": ((3, 4),),
        "tag": ((3, 1),),
        "strings": (),
        "others": ((3, 1),),
        "pretrain": ((3, 1), (3, 4)),
    },
}
OTHERS = ("crf", "answer", "regression")


def main(cpus: int, folder: Path) -> None:
    from pretrain_on import pretrain

    from kbert.tasks.finetuning import finetune
    from kbert.tasks.settings import ClassifySettings
    from kbert.training.strategies import strategy_for

    strategy = strategy_for(f"cpu:{cpus}")
    texts, classes, random = examples()
    tags = token_labels(texts, random)
    for devices, parts in RUNS[cpus]["classify"]:
        model = classifier(strategy_for(f"cpu:{devices}"))
        validation = (texts[:20], classes[:20])
        fitted = train(model, classes, parts, class_weight=CLASS_WEIGHT, validation_data=validation)
        evaluate(model, classes, fitted)
        keep(model, fitted, folder / f"classify-{devices}-{parts}.npz")
    for devices, parts in RUNS[cpus]["adversarial"]:
        model = adversarial_classifier(strategy_for(f"cpu:{devices}"))
        keep(model, train(model, classes, parts), folder / f"adversarial-{devices}-{parts}.npz")
    for devices, parts in RUNS[cpus]["tag"]:
        model = token_tagger(strategy_for(f"cpu:{devices}"))
        keep(model, train(model, tags, parts), folder / f"tag-{devices}-{parts}.npz")
    for devices, parts in RUNS[cpus]["strings"]:
        model = classifier(strategy_for(f"cpu:{devices}"))
        keep(model, train_on_strings(model, parts), folder / f"strings-{devices}-{parts}.npz")
    for devices, parts in RUNS[cpus]["others"]:
        for name in OTHERS:
            model, fitted = train_other(name, strategy_for(f"cpu:{devices}"), parts)
            keep(model, fitted, folder / f"{name}-{devices}-{parts}.npz")
    for devices, parts in RUNS[cpus]["pretrain"]:
        model, fitted = pretrain(strategy_for(f"cpu:{devices}"), parts, sys.modules[__name__])
        keep(model, fitted, folder / f"pretrain-{devices}-{parts}.npz")
    if cpus == 2:
        (folder / "dropout.json").write_text(json.dumps(dropout_between_devices(strategy)))
        finetune(ClassifySettings.from_toml(folder / "devices.toml"))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
