"""N devices train the model that one does: against each other, and against a training loop written out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from training import train_on

from kbert.errors import InputError
from kbert.tasks.settings import ClassifySettings
from kbert.training.strategies import check_devices, strategy_for

HERE = Path(__file__).parent
KEY_BIAS = slice(12, 24)  # of the biases of query, key and value, 12 each


def start(script: str, *args: object, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-W", "error", str(HERE / script), *map(str, args)]
    search_path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": search_path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_same_weights(got, expected, atol=1e-5, idle=()):
    """`idle` ends the names of weights that move nothing: their gradient is rounding, which Adam makes into steps."""
    assert set(got) == set(expected)
    compared = [name for name in expected if not name.endswith(tuple(idle))]
    assert len(compared) == len(expected) - len(idle)
    for name in compared:
        left, right = got[name], expected[name]
        if name.endswith("query_key_value/bias"):
            # A bias of all keys moves no attention weight.
            left, right = np.delete(left, KEY_BIAS), np.delete(right, KEY_BIAS)
        np.testing.assert_allclose(left, right, rtol=0, atol=atol, err_msg=name)


# === Several devices of one machine ===


@pytest.fixture(scope="module")
def settings(tiny_folder, review_files):
    """A fine-tuning run with dropout, but for where."""
    train, dev = map(str, review_files)
    common = {"model": str(tiny_folder), "train": train, "dev": dev, "batch_size": 4, "max_length": 16}
    return common | {"learning_rate": 0.01, "epochs": 2, "checkpoint_steps": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, settings):
    """A folder of weights and histories by task, number of devices and batches per optimizer step."""
    folder = tmp_path_factory.mktemp("runs")
    run = ClassifySettings(out=str(folder / "devices"), devices="cpu:2", **settings)
    (folder / "devices.toml").write_text(run.to_toml())
    for process in [start("train_on.py", cpus, folder) for cpus in train_on.RUNS]:
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, output + errors
    return folder


def weights(runs, name):
    return dict(np.load(runs / f"{name}.npz"))


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("classify-2-1", "classify-1-1"),
        ("classify-3-4", "classify-1-1"),
        ("adversarial-3-4", "adversarial-1-1"),
        ("tag-3-1", "tag-1-1"),
        ("strings-2-2", "strings-1-2"),
        *((f"{name}-{run}", f"{name}-1-1") for name in train_on.OTHERS for run in ("2-4", "3-1")),
        *((f"pretrain-{run}", "pretrain-1-1") for run in ("1-4", "2-1", "3-1", "3-4")),
    ],
)
def test_devices_and_accumulation_change_nothing(runs, name, one):
    # The places of an answer are told apart by a softmax over tokens, which what is added to all of them leaves alone.
    idle = ("layer_1/feedforward/layer_norm/beta", "span/bias") if name.startswith("answer") else ()
    assert_same_weights(weights(runs, name), weights(runs, one), idle=idle)
    got, expected = (json.loads((runs / f"{run}.json").read_text()) for run in (name, one))
    for metric in got:
        np.testing.assert_allclose(got[metric], expected[metric], atol=1e-5, err_msg=metric)


def test_every_device_draws_its_own_dropout(runs):
    differences = json.loads((runs / "dropout.json").read_text())
    assert differences["in training"] > 0.1
    assert differences["before"] == differences["after"] == 0


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_one_device_follows_the_formula(runs, task):
    """Thirty steps by hand: weighted mean, clipping, AdamW with decay, warm-up; embedding rows summed."""
    import tensorflow as tf

    from kbert.data.batching import training_order

    texts, classes, random = train_on.examples()
    tags = train_on.token_labels(texts, random)
    strategy = tf.distribute.get_strategy()
    model = train_on.classifier(strategy) if task == "classify" else train_on.token_tagger(strategy)
    rows = model._rows([texts])
    orders = [training_order(rows.lengths(), train_on.BATCH, train_on.SEED, e) for e in range(train_on.EPOCHS)]
    assert len(orders[0][0]) == 1, "the first batch is the uneven one"
    variables = model.trainable_variables
    moments = [[np.zeros(v.shape), np.zeros(v.shape)] for v in variables]
    steps = [batch for order in orders for batch in order]
    assert len(steps) == 30
    for step, batch in enumerate(steps):
        with tf.GradientTape() as tape:
            logits = model(rows.features(tf.constant(batch)), training=True)
            if task == "classify":
                target = classes[batch]
                weight = np.array([train_on.CLASS_WEIGHT[train_on.LABELS[c]] for c in target], "float32")
            else:
                target = tags[batch, : logits.shape[1]]
                weight = (target >= 0).astype("float32")
            losses = -tf.gather(tf.nn.log_softmax(logits), np.maximum(target, 0), batch_dims=target.ndim)
            loss = tf.reduce_sum(losses * weight) / max(weight.sum(), 1e-9)
        gradients = [None if g is None else np.float64(tf.convert_to_tensor(g)) for g in tape.gradient(loss, variables)]
        norm = np.sqrt(sum((g**2).sum() for g in gradients if g is not None))
        rate = 0.01 * (step / 3 if step < 3 else (30 - step) / 27)
        for v, g, (m, s) in zip(variables, gradients, moments, strict=True):
            if g is None:
                continue
            g = g / max(norm, 1)
            m += 0.1 * (g - m)
            s += 0.001 * (g**2 - s)
            decay = 0 if v.path.endswith(("bias", "gamma", "beta")) else 0.01
            change = m / (1 - 0.9 ** (step + 1)) / (np.sqrt(s / (1 - 0.999 ** (step + 1))) + 1e-8)
            v.assign(v.numpy() * (1 - rate * decay) - rate * change)
    written_out = {v.path.split("/", 1)[1]: v.numpy() for v in variables}
    got = weights(runs, f"{task}-1-1")
    # Adam makes large steps of the smallest gradients, which float32 rounds: few weights differ by more than 1e-6.
    assert_same_weights(got, written_out, atol=5e-4)
    assert np.median(np.concatenate([abs(got[name] - written_out[name]).ravel() for name in got])) < 1e-6


# === Several machines ===


def two_processes(settings: Path, *steps: object) -> list[subprocess.Popen]:
    """`kbert finetune` as two machines that TF_CONFIG names; the second dies after the step given."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    workers = [f"localhost:{server.getsockname()[1]}" for server in sockets]
    for server in sockets:
        server.close()
    return [
        start(
            "finetune.py",
            settings,
            *(steps if index == 1 else ()),
            TF_CONFIG=json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}),
        )
        for index in range(2)
    ]


def test_two_machines_train_as_two_devices_and_go_on_after_one_has_died(runs, settings, tmp_path):
    """With dropout, whose masks depend on seeds, replicas and steps alone."""
    run = ClassifySettings(out=str(tmp_path / "machines"), **settings)
    (tmp_path / "machines.toml").write_text(run.to_toml())
    survivor, dying = two_processes(tmp_path / "machines.toml", 7)
    dying.communicate(timeout=200)
    died = time.monotonic()
    output, errors = survivor.communicate(timeout=60)
    assert time.monotonic() - died < 60
    assert survivor.returncode == 1, errors
    assert output == ""
    assert errors.splitlines()[-1].startswith("kbert: another machine of TF_CONFIG has stopped or cannot be reached")
    assert not (tmp_path / "machines" / "config.json").exists()

    for process in two_processes(tmp_path / "machines.toml"):
        output, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        assert json.loads(output) == json.loads((tmp_path / "machines" / "metrics.json").read_text())
    folders = (tmp_path / "machines", runs / "devices")
    got, expected = (safetensors.numpy.load_file(folder / "model.safetensors") for folder in folders)
    for name in expected:
        if not name.endswith("key.bias"):  # see `assert_same_weights`
            np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-5, err_msg=name)


# === What devices may be ===


@pytest.mark.parametrize("devices", ["cpu:0", "gpu:x", "tpu", "cpu:", "2"])
def test_devices_that_are_none(devices):
    with pytest.raises(InputError, match="--devices must be cpu, cpu:N, gpu or gpu:N, with N 1 or more"):
        check_devices(devices)


def test_more_gpus_than_there_are():
    import tensorflow as tf

    number = len(tf.config.list_physical_devices("GPU")) + 1
    with pytest.raises(InputError, match=f"--devices gpu:{number}: TensorFlow sees {number - 1} GPUs here"):
        strategy_for(f"gpu:{number}")


def test_logical_cpus_come_too_late():
    import tensorflow as tf

    tf.constant(1)  # TensorFlow starts with the one CPU
    with pytest.raises(InputError, match="--devices cpu:5: TensorFlow has started with other devices"):
        strategy_for("cpu:5")


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": 3}'])
def test_a_bad_tf_config(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="TF_CONFIG must be JSON"):
        strategy_for()


def test_logical_cpus_on_several_machines(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}')
    with pytest.raises(InputError, match="--devices cpu:2: each machine of TF_CONFIG gives one CPU; say cpu"):
        strategy_for("cpu:2")
