"""What int8 weights cost: accuracy of fine-tuned classifiers on a file, in each engine; print a table.

python tests/benchmarks/engines.py FILE FOLDER...
"""

import argparse

import numpy as np

import kbert
from kbert.data.readers import read_texts

ENGINES = {"TensorFlow": None, "LiteRT": "none", "LiteRT int8": "int8"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("folders", nargs="+")
    args = parser.parse_args()
    records = read_texts(args.file)
    print("| | " + " | ".join(f"{name}, accuracy | other labels" for name in ENGINES) + " |")
    print("|---" * (2 * len(ENGINES) + 1) + "|")
    for folder in args.folders:
        model = kbert.BertTextClassifier.from_preset(folder)
        labels = {
            name: model.predict(records.texts, engine=quantize and kbert.LiteRTEngine(model, quantize))["label"]
            for name, quantize in ENGINES.items()
        }
        accuracies = [100 * np.mean(found == np.array(records.labels)) for found in labels.values()]
        others = [int((found != labels["TensorFlow"]).sum()) for found in labels.values()]
        cells = [f"{a:.2f} | {o}" for a, o in zip(accuracies, others, strict=True)]
        print(f"| {folder} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
