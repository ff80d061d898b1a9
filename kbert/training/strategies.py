"""Which devices train: a short text, and TF_CONFIG, to a `tf.distribute` strategy."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from kbert.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

_log = logging.getLogger(__name__)


def check_devices(devices: str) -> None:
    """Refuse a text that names no devices."""
    if not re.fullmatch(r"(?:(?:cpu|gpu)(?::[1-9]\d*)?)?", devices):
        raise InputError(f"--devices must be cpu, cpu:N, gpu or gpu:N, with N 1 or more. Received: {devices!r}")


def strategy_for(devices: str = "") -> tf.distribute.Strategy:
    """The strategy to make and train a model under; call it before TensorFlow computes anything.

    Args:
        devices: "" takes all GPUs, or the CPU where there is none; "gpu" or "gpu:N" takes all or the first N GPUs;
            "cpu" takes the CPU, and "cpu:N" makes N logical CPUs of it, which share its cores.

    Returns:
        TensorFlow's default strategy for one device, and a `MirroredStrategy` for several. Where the environment
        variable TF_CONFIG names several machines, a `MultiWorkerMirroredStrategy`, once all of them have started.

    Raises:
        InputError: `devices` is none of these or names more devices than there are, this process works with others
            already, or TF_CONFIG cannot be read.
    """
    import tensorflow as tf

    check_devices(devices)
    machines = _machines()
    kind, _, count = devices.partition(":")
    number = int(count or 0)
    gpus = tf.config.list_physical_devices("GPU")
    if kind == "gpu" and len(gpus) < max(number, 1):
        raise InputError(f"--devices {devices}: TensorFlow sees {len(gpus)} GPUs here; name fewer, or cpu")
    if kind == "cpu" and number > 1 and machines > 1:
        raise InputError(f"--devices {devices}: each machine of TF_CONFIG gives one CPU; say cpu")
    used = [] if kind == "cpu" else gpus[: number or None]
    try:
        tf.config.set_visible_devices(used, "GPU")
        cpu = tf.config.list_physical_devices("CPU")[0]
        if not used and number > len(tf.config.get_logical_device_configuration(cpu) or [cpu]):
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
        if machines > 1:
            _log.info("waiting until all %d machines of TF_CONFIG have started", machines)
            return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError:
        raise InputError(
            f"--devices {devices}: TensorFlow has started with other devices; start a new process"
        ) from None
    names = [f"GPU:{i}" for i in range(len(used))] or [f"CPU:{i}" for i in range(number)]
    return _mirrored(tuple(names)) if len(names) > 1 else tf.distribute.get_strategy()


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """The one `MirroredStrategy` of a process: the sums of a second would meet those of the first, and fail."""
    if _mirrored.cache_info().currsize:
        raise InputError("this process has trained on other devices already: start a new one")
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices)


def _machines() -> int:
    text = os.environ.get("TF_CONFIG", "")
    try:
        cluster = json.loads(text or "{}").get("cluster", {})
        return sum(len(cluster.get(job, [])) for job in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError):
        raise InputError(f"TF_CONFIG must be JSON with `cluster` and `task`. Received: {text!r}") from None


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files: the `chief` of TF_CONFIG, or else its first worker."""
    resolver = strategy.cluster_resolver
    if resolver is None:
        return True
    return resolver.task_type == "chief" or ("chief" not in resolver.cluster_spec().jobs and resolver.task_id == 0)


def agree(strategy: tf.distribute.Strategy, value: str) -> bool:
    """Whether all machines pass the same text; each of them must call this at the same point."""
    if strategy.cluster_resolver is None:
        return True
    import tensorflow as tf

    digest = int.from_bytes(hashlib.sha256(value.encode()).digest()[:4], "big") >> 1
    digests = strategy.gather(strategy.run(lambda: tf.constant([digest])), axis=0)
    return bool(tf.reduce_all(digests == digest))


def of_first_machine(strategy: tf.distribute.Strategy, values: list[float]) -> list[float]:
    """The numbers that the first machine passes, on all of them; each must call this at the same point."""
    if strategy.cluster_resolver is None:
        return values
    import tensorflow as tf

    gathered = strategy.gather(strategy.run(lambda: tf.constant([values], tf.float64)), axis=0)
    return gathered[0].numpy().tolist()


def any_machine(strategy: tf.distribute.Strategy, value: bool) -> bool:
    """Whether any machine passes True; each must call this at the same point."""
    if strategy.cluster_resolver is None:
        return value
    import tensorflow as tf

    sums = _summing(strategy)(tf.constant(float(value)))
    return bool(strategy.experimental_local_results(sums)[0] > 0)


@functools.lru_cache(maxsize=1)
def _summing(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], Any]:
    """The sum of a number over all replicas, in a graph that is traced once."""
    import tensorflow as tf

    def of_replica(value):
        # The identity stands on the replica's device, which tells where the sum is wanted.
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

    return tf.function(lambda value: strategy.run(of_replica, args=(value,)), autograph=False)


@contextlib.contextmanager
def lost_machines_named(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Say in one line that another machine has gone: TensorFlow notices that within seconds.

    Raises:
        ConnectionError: another machine has stopped or cannot be reached.
    """
    import tensorflow as tf

    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if strategy.cluster_resolver is None:
            raise
        raise ConnectionError(
            "another machine of TF_CONFIG has stopped or cannot be reached: see what it says, then give the same "
            "command on all of them again; the run goes on from its last checkpoint"
        ) from error
