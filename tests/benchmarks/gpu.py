"""Training steps of BERT on one GPU: kbert's layers on JAX beside transformers on PyTorch, both in bfloat16.

    python tests/benchmarks/gpu.py [--size base] [--batch-size 64] [--length 128] [--steps 20] [--rounds 5] [--compile]

Needs jax (with its CUDA plugin), torch and transformers. Without a GPU it prints {"gpu": null}, and that is all; then
`--device cpu --size tiny --batch-size 4 --steps 2` tries it out.

Two kinds of step: `finetune` is a classifier's; `pretrain` guesses 15 % of the tokens. Rows have the full length, so
that no padding is computed. A step is forward, backward, clipping and AdamW, dropout on. kbert is compiled by
`jax.jit`; transformers runs with SDPA under autocast, and with --compile by torch.compile too. Each runs in a process
of its own, one after the other, `--rounds` times over.

Utilisation is the operations that the model needs (`useful_flops`, and of the word logits those of masked tokens; times
three) by the GPU's peak: the same number for all, whatever else they compute. transformers computes the last layer and
the word logits for all tokens.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from kbert.bench.flops import useful_flops
from kbert.bench.report import table
from kbert.bench.timing import Contender, compare
from kbert.bench.worker import start
from kbert.config import SIZES, BertConfig

# Dense bfloat16 TFLOP/s by NVIDIA's data sheets, by what nvidia-smi calls the GPU.
PEAKS = {"H200": 989.0, "H100 80GB HBM3": 989.0, "H100 PCIe": 756.0, "A100": 312.0}
VOCABULARY, CLASSES, MASKED = 30522, 3, 0.15
TASKS = ("finetune", "pretrain")


def gpu_name() -> str | None:
    """The first GPU, as nvidia-smi calls it."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else None


def masked_tokens(length: int) -> int:
    """How many tokens of a row are guessed."""
    return max(1, round(MASKED * length))


def step_flops(config: BertConfig, task: str, length: int) -> int:
    """Operations that a training step needs for one row."""
    if task == "finetune":
        return 3 * useful_flops(config, [length], first_token_only=True)
    D, M = config.hidden_dim, masked_tokens(length)
    pooler = 2 * D**2  # which guessing words does without
    return 3 * (useful_flops(config, [length]) - pooler + 2 * M * D * (D + config.vocabulary_size))


def batch_of(task: str, batch_size: int, length: int) -> dict[str, np.ndarray]:
    """Random token ids, and classes or places of masked tokens with what stands there."""
    random = np.random.default_rng(0)
    batch = {"token_ids": random.integers(1000, VOCABULARY, (batch_size, length)).astype("int32")}
    if task == "finetune":
        return batch | {"labels": random.integers(0, CLASSES, batch_size).astype("int32")}
    places = np.stack([random.permutation(length)[: masked_tokens(length)] for _ in range(batch_size)])
    return batch | {"places": places.astype("int32"), "labels": np.take_along_axis(batch["token_ids"], places, 1)}


# === In a worker ===


def kbert_steps(task: str, size: str, batch_size: int, length: int, steps: int, device: str, threads: int) -> Callable:
    """kbert's encoder and heads under jax.jit."""
    os.environ |= {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    os.environ["JAX_PLATFORMS"] = "cuda" if device == "gpu" else "cpu"
    import jax
    import keras
    from keras import ops

    from kbert.modeling.encoder import BertEncoder
    from kbert.modeling.heads import ClassificationHead, MaskedLMHead

    keras.config.set_dtype_policy("mixed_bfloat16")
    config = BertConfig.of_size(size, VOCABULARY)

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = BertEncoder(config, skip_padding=False)
            self.head = ClassificationHead(config, CLASSES) if task == "finetune" else MaskedLMHead(config)
            self.head.build()
            self.built = True

        def call(self, batch, training=None):
            ids = batch["token_ids"]
            inputs = {"token_ids": ids, "segment_ids": ops.zeros_like(ids), "padding_mask": ops.ones_like(ids)}
            if task == "finetune":
                pooled = self.encoder(inputs, first_token_only=True, training=training)["pooled_output"]
                return self.head(pooled, training=training)
            sequence = self.encoder(inputs, training=training)["sequence_output"]
            vectors = ops.take_along_axis(sequence, batch["places"][:, :, None], axis=1)
            return self.head(vectors, self.encoder.embeddings.word.embeddings)

    model = Model()
    optimizer = keras.optimizers.AdamW(2e-5, weight_decay=0.01, global_clipnorm=1.0)
    optimizer.build(model.trainable_variables)

    def loss_of(weights, rest, batch):
        logits, rest = model.stateless_call(weights, rest, batch, training=True)
        return ops.mean(ops.sparse_categorical_crossentropy(batch["labels"], logits, from_logits=True)), rest

    def step(state, batch):
        weights, rest, moments = state
        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, rest, batch)
        weights, moments = optimizer.stateless_apply(moments, gradients, weights)
        return loss, (weights, rest, moments)

    compiled = jax.jit(step, donate_argnums=0)
    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    state = tuple([variable.value for variable in group] for group in groups)
    batch = jax.device_put(batch_of(task, batch_size, length))

    def run():
        nonlocal state
        for _ in range(steps):
            loss, state = compiled(state, batch)
        return _finite(float(loss))

    run()
    return run


def transformers_steps(
    task: str, size: str, batch_size: int, length: int, steps: int, device: str, compiled: bool, threads: int
) -> Callable:
    """transformers' classifier or masked LM."""
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    place = "cuda" if device == "gpu" else "cpu"
    ours = BertConfig.of_size(size, VOCABULARY)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=ours.hidden_dim,
        num_hidden_layers=ours.num_layers,
        num_attention_heads=ours.num_heads,
        intermediate_size=ours.intermediate_dim,
        num_labels=CLASSES,
        attn_implementation="sdpa",
    )
    kind = transformers.BertForSequenceClassification if task == "finetune" else transformers.BertForMaskedLM
    model = kind(config).to(place).train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-5, weight_decay=0.01, fused=device == "gpu")
    batch = {
        name: torch.from_numpy(array).long().to(place) for name, array in batch_of(task, batch_size, length).items()
    }
    labels = batch["labels"]
    if task == "pretrain":
        labels = torch.full_like(batch["token_ids"], -100).scatter_(1, batch["places"], labels)
    forward = torch.compile(model) if compiled else model

    def run():
        for _ in range(steps):
            with torch.autocast(place, torch.bfloat16):
                loss = forward(input_ids=batch["token_ids"], labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return _finite(loss.item())

    run()
    return run


def _finite(loss: float) -> float:
    if not np.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")
    return loss


# === The command ===


def measure(args: argparse.Namespace, task: str, gpu: str | None) -> list[Any]:
    """All contenders on one kind of step."""
    common = {name: getattr(args, name) for name in ("size", "batch_size", "length", "steps", "device")} | {
        "task": task
    }
    entries = [("kbert, JAX", "gpu:kbert_steps", {})]
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        entries.insert(0, ("transformers, PyTorch", "gpu:transformers_steps", {"compiled": False}))
        if args.compile:
            entries.insert(1, ("transformers, torch.compile", "gpu:transformers_steps", {"compiled": True}))
    with ExitStack() as stack:
        contenders = [
            Contender(name, start(stack, function, common | settings, os.cpu_count() or 1).run)
            for name, function, settings in entries
        ]
        found = compare(contenders, args.steps * args.batch_size, "examples/s", args.rounds, task)
    flops = step_flops(BertConfig.of_size(args.size, VOCABULARY), task, args.length) / 1e12
    peak = next((peak for name, peak in PEAKS.items() if name in (gpu or "")), None)
    details = [{"TFLOP/s": m.median * flops} for m in found]
    if peak:
        details = [d | {"% of peak": 100 * d["TFLOP/s"] / peak} for d in details]
    return [replace(m, details=d) for m, d in zip(found, details, strict=True)]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--size", choices=tuple(SIZES), default="base")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="of a run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--compile", action="store_true", help="also transformers by torch.compile")
    args = parser.parse_args()
    gpu = gpu_name()
    if args.device == "gpu" and gpu is None:
        print("no GPU here: nothing was measured", file=sys.stderr)
        print(json.dumps({"gpu": None}))
        return
    # The workers import this file as `gpu`.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    for task in args.tasks:
        found = measure(args, task, gpu if args.device == "gpu" else None)
        print(
            f"{task}, {args.size}, {args.batch_size} x {args.length}, {gpu or 'CPU'}\n{table(found)}", file=sys.stderr
        )
        for measurement in found:
            row = {"gpu": gpu, "task": task, "size": args.size, "batch_size": args.batch_size, "length": args.length}
            print(json.dumps(row | asdict(measurement)), flush=True)


if __name__ == "__main__":
    main()
