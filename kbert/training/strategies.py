"""Which devices train: a short text to a `tf.distribute` strategy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kbert.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf


def strategy_for(devices: str = "") -> tf.distribute.Strategy:
    """The strategy to make and train a model under; call it before TensorFlow computes anything.

    Args:
        devices: "" takes all GPUs, or the CPU where there is none; "gpu" or "gpu:N" takes all or the first N GPUs;
            "cpu" takes the CPU, and "cpu:N" makes N logical CPUs of it, which share its cores.

    Returns:
        TensorFlow's default strategy for one device, a `MirroredStrategy` for several.

    Raises:
        InputError: `devices` is none of these or names more devices than there are, or TensorFlow has started already
            with others.
    """
    import tensorflow as tf

    check_devices(devices)
    kind, _, count = devices.partition(":")
    number = int(count or 0)
    gpus = tf.config.list_physical_devices("GPU")
    if kind == "gpu" and len(gpus) < max(number, 1):
        raise InputError(f"--devices {devices}: TensorFlow sees {len(gpus)} GPUs here; name fewer, or cpu")
    used = [] if kind == "cpu" else gpus[: number or None]
    try:
        tf.config.set_visible_devices(used, "GPU")
        cpu = tf.config.list_physical_devices("CPU")[0]
        if not used and number > len(tf.config.get_logical_device_configuration(cpu) or [cpu]):
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
    except RuntimeError:
        raise InputError(f"--devices {devices}: TensorFlow has started with other devices; start a new process") from None
    names = [f"GPU:{i}" for i in range(len(used))] or [f"CPU:{i}" for i in range(number)]
    return tf.distribute.MirroredStrategy(names) if len(names) > 1 else tf.distribute.get_strategy()


def check_devices(devices: str) -> None:
    """Refuse a text that names no devices."""
    if not re.fullmatch(r"(?:(?:cpu|gpu)(?::[1-9]\d*)?)?", devices):
        raise InputError(f"--devices must be cpu, cpu:N, gpu or gpu:N, with N 1 or more. Received: {devices!r}")
