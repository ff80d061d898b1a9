"""The encoders' forward passes by the papers, written out in numpy and double precision: what the tests compare with.

Every function takes one row without padding, and the tensors `w` of a checkpoint.
"""

from __future__ import annotations

import math

import numpy as np


def forward(config, w, token_ids, segment_ids):
    """BERT: ids [T] to vectors [T, D] and pooled vector [D]."""
    w = {name: tensor.astype("float64") for name, tensor in w.items()}
    x = embed(config, w, token_ids, segment_ids)
    for i in range(config.num_layers):
        x = attend(config, w, x, f"layer_{i}/attention")
        hidden = activate(config, dense(w, x, f"layer_{i}/feedforward/intermediate"))
        x = norm(config, w, x + dense(w, hidden, f"layer_{i}/feedforward/output"), f"layer_{i}/feedforward/layer_norm")
    return x, np.tanh(dense(w, x[0], "pooler"))


def light_forward(config, w, token_ids, segment_ids):
    """The light encoder: ids [T] to vectors [T, 2 D] and pooled vector [2 D]."""
    w = {name: tensor.astype("float64") for name, tensor in w.items()}
    x = bilstm(w, attend(config, w, embed(config, w, token_ids, segment_ids), "attention"), "bilstm")
    return x, np.tanh(dense(w, x.mean(0), "pooler"))


def embed(config, w, token_ids, segment_ids):
    x = w["embeddings/word/embeddings"][token_ids] + w["embeddings/segment/embeddings"][segment_ids]
    x = norm(config, w, x + positions(config, w, len(token_ids)), "embeddings/layer_norm")
    return x if config.embedding_dim is None else dense(w, x, "embeddings/projection")


def positions(config, w, length):
    if config.position_embedding == "learned":
        return w["embeddings/position/embeddings"][:length]
    E = w["embeddings/word/embeddings"].shape[1]
    table = np.empty((length, E))
    for p in range(length):
        for channel in range(E):
            angle = p / 10000 ** (2 * (channel // 2) / E)
            table[p, channel] = math.cos(angle) if channel % 2 else math.sin(angle)
    return table * math.sqrt(2) * config.initializer_range


def attend(config, w, x, name):
    q, k, v = np.split(dense(w, x, f"{name}/query_key_value"), 3, axis=-1)
    heads = []
    for n in range(config.num_heads):
        part = slice(n * config.head_dim, (n + 1) * config.head_dim)
        scores = q[:, part] @ k[:, part].T / math.sqrt(config.head_dim)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, part])
    attended = dense(w, np.concatenate(heads, -1), f"{name}/output")
    return norm(config, w, x + attended, f"{name}/layer_norm")


def bilstm(w, x, name):
    cells = [
        [w[f"{name}/{direction}/lstm_cell/{part}"] for part in ("kernel", "recurrent_kernel", "bias")]
        for direction in ("forward", "backward")
    ]
    return np.concatenate([lstm(x, *cells[0]), lstm(x[::-1], *cells[1])[::-1]], axis=-1)


def lstm(x, kernel, recurrent_kernel, bias):
    """[T, D] -> [T, units]; the gates are input, forget, candidate, output."""

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    h = c = np.zeros(len(recurrent_kernel))
    outputs = np.empty((len(x), len(h)))
    for t, vector in enumerate(x):
        i, f, g, o = np.split(vector @ kernel + h @ recurrent_kernel + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = outputs[t] = sigmoid(o) * np.tanh(c)
    return outputs


def dense(w, x, name):
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def norm(config, w, x, name):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config.layer_norm_epsilon)
    return scaled * w[f"{name}/gamma"] + w[f"{name}/beta"]


def activate(config, x):
    if config.activation == "relu":
        return np.maximum(x, 0)
    if config.activation == "gelu_approximate":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
