"""BERT's forward pass by the paper, written out in numpy and double precision: what the tests compare with."""

from __future__ import annotations

import math

import numpy as np


def forward(config, w, token_ids, segment_ids):
    """One row without padding, ids [T], with the tensors `w` of a checkpoint: vectors [T, D] and pooled vector [D]."""

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config.layer_norm_epsilon)
        return scaled * w[f"{name}/gamma"] + w[f"{name}/beta"]

    def dense(x, name):
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    def activation(x):
        if config.activation == "relu":
            return np.maximum(x, 0)
        if config.activation == "gelu_approximate":
            return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    w = {name: tensor.astype("float64") for name, tensor in w.items()}
    x = w["embeddings/word/embeddings"][token_ids] + w["embeddings/segment/embeddings"][segment_ids]
    x = norm(x + w["embeddings/position/embeddings"][: len(token_ids)], "embeddings/layer_norm")
    if config.embedding_dim is not None:
        x = dense(x, "embeddings/projection")
    for i in range(config.num_layers):
        q, k, v = np.split(dense(x, f"layer_{i}/attention/query_key_value"), 3, axis=-1)
        heads = []
        for n in range(config.num_heads):
            part = slice(n * config.head_dim, (n + 1) * config.head_dim)
            scores = q[:, part] @ k[:, part].T / math.sqrt(config.head_dim)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, part])
        attended = dense(np.concatenate(heads, -1), f"layer_{i}/attention/output")
        x = norm(x + attended, f"layer_{i}/attention/layer_norm")
        hidden = activation(dense(x, f"layer_{i}/feedforward/intermediate"))
        x = norm(x + dense(hidden, f"layer_{i}/feedforward/output"), f"layer_{i}/feedforward/layer_norm")
    return x, np.tanh(dense(x[0], "pooler"))
