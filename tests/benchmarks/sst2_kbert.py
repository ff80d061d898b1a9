"""Fine-tune a BERT folder on SST-2 with kbert; print one JSON line (the twin of sst2_transformers.py)."""

import argparse
import json
import time
from pathlib import Path

import keras

import kbert
from kbert.data.readers import read_texts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    train, dev = read_texts(args.data / "train.tsv"), read_texts(args.data / "dev.tsv")
    keras.utils.set_random_seed(args.seed)
    model = kbert.BertTextClassifier.from_preset(args.model, labels=["0", "1"], max_length=128)
    model.compile(learning_rate=2e-5, weight_decay=0.01, warmup_rate=0.1)
    begin = time.perf_counter()
    model.fit(train.texts, train.labels, batch_size=32, epochs=1, seed=args.seed, verbose=2)
    seconds = time.perf_counter() - begin
    accuracy = model.evaluate(dev.texts, dev.labels, verbose=0)["accuracy"]
    print(
        json.dumps(
            {
                "system": "kbert",
                "seed": args.seed,
                "accuracy": accuracy,
                "seconds": seconds,
                "examples_per_second": len(train) / seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
