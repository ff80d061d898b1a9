"""Write pretraining.npz: what transformers' BertForPreTraining learns from a batch, for tests that run without it.

    python tests/golden/write_pretraining.py        (needs the extra `parity`)

A tiny model with random weights and no dropout; weights and gradients are kept whole, by kbert's names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers

from kbert.checkpoints.checkpoint import (
    expand,
    masked_lm_shapes,
    next_sentence_shapes,
    read_tensor,
    tensor_shapes,
)
from kbert.checkpoints.huggingface_names import ENCODER_RULES, HEAD_RULES, foreign_tensors
from kbert.config import BertConfig

B, T, MASK = 5, 11, 4
SIZES = {"vocabulary_size": 97, "num_layers": 2, "num_heads": 3, "hidden_dim": 12, "intermediate_dim": 37}
CONFIG = BertConfig(**SIZES, max_sequence_length=29, num_segments=2, dropout_rate=0.0, attention_dropout_rate=0.0)


def random_batch(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Rows of several lengths with a fifth of their tokens hidden, in one of them none."""
    lengths = np.array([11, 4, 7, 9, 11])
    mask = (np.arange(T) < lengths[:, None]).astype("int32")
    ids = random.integers(MASK + 1, SIZES["vocabulary_size"], (B, T)).astype("int32") * mask
    guessed = (random.random((B, T)) < 0.2) & (mask == 1)
    guessed[1], guessed[0, 3:5] = False, True
    hidden = np.where(guessed & (random.random((B, T)) < 0.8), MASK, ids)
    return {
        "token_ids": hidden.astype("int32"),
        "segment_ids": (np.arange(T) > 4).astype("int32") * mask,
        "padding_mask": mask,
        "guessed": guessed.astype("int32"),
        "tokens": np.where(guessed, ids, -1).astype("int32"),
        "pair_label": random.integers(0, 2, B).astype("int32"),
    }


def learnt(seed: int) -> dict[str, np.ndarray]:
    """A batch, the weights ("weight:…"), both losses, and the gradient of their sum for each weight ("gradient:…")."""
    random = np.random.default_rng(seed)
    shapes = tensor_shapes(CONFIG) | masked_lm_shapes(CONFIG) | next_sentence_shapes(CONFIG)
    weights = {
        name: (0.3 * random.normal(size=shape) + name.endswith("gamma")).astype("float32")
        for name, shape in shapes.items()
    }
    batch = random_batch(random)
    model = transformers.BertForPreTraining(
        transformers.BertConfig(
            vocab_size=CONFIG.vocabulary_size,
            hidden_size=CONFIG.hidden_dim,
            num_hidden_layers=CONFIG.num_layers,
            num_attention_heads=CONFIG.num_heads,
            intermediate_size=CONFIG.intermediate_dim,
            max_position_embeddings=CONFIG.max_sequence_length,
        )
    ).eval()
    foreign = foreign_tensors(weights, CONFIG, "BertForPreTraining")
    missing = model.load_state_dict({name: torch.tensor(value) for name, value in foreign.items()}, strict=False)
    # Both are tied to weights that are there.
    assert set(missing.missing_keys) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert not missing.unexpected_keys
    whole = {name: torch.tensor(values).long() for name, values in batch.items()}
    output = model(
        input_ids=whole["token_ids"],
        token_type_ids=whole["segment_ids"],
        attention_mask=whole["padding_mask"],
        labels=torch.where(whole["tokens"] < 0, -100, whole["tokens"]),
        next_sentence_label=whole["pair_label"],
    )
    output.loss.backward()
    pair_loss = torch.nn.functional.cross_entropy(output.seq_relationship_logits, whole["pair_label"])
    gradients = {name.removeprefix("bert."): p.grad.numpy() for name, p in model.named_parameters()}
    rules = [rule for rule in expand(ENCODER_RULES + HEAD_RULES, CONFIG.num_layers) if rule.name in shapes]
    return {
        **batch,
        "loss": output.loss.detach().numpy(),
        "pair_loss": pair_loss.detach().numpy(),
        **{f"weight:{name}": value for name, value in weights.items()},
        **{f"gradient:{rule.name}": read_tensor(rule, gradients) for rule in rules},
    }


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).parent / "pretraining.npz", **learnt(11))
