"""In which numbers a run computes, and whether XLA compiles its steps: decided here, by the devices it runs on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kbert.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
XLA = ("auto", "on", "off")


@dataclass(frozen=True)
class Arithmetic:
    """How the steps of a run compute."""

    policy: str
    """Keras' dtype policy, "float32", "mixed_bfloat16" or "mixed_float16"; weights are float32 in all of them."""
    jit_compile: bool
    """Whether XLA compiles the steps: anew for every shape, so that it wants padded rows of few lengths."""

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Layers made inside compute under the policy."""
        import keras

        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.policy)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)


def check_arithmetic(precision: str, xla: str) -> None:
    """Refuse names that are none."""
    for flag, value, known in (("precision", precision, PRECISIONS), ("xla", xla, XLA)):
        if value not in known:
            raise InputError(f"--{flag} must be one of {', '.join(known)}. Received: {value!r}")


def arithmetic_for(
    strategy: tf.distribute.Strategy, precision: str = "auto", xla: str = "auto", padded: bool = False
) -> Arithmetic:
    """What suits the devices of a strategy, where the caller does not say it.

    Args:
        strategy: as `kbert.training.strategies.strategy_for` gives it.
        precision: one of `PRECISIONS`. "auto" is float32 on CPUs, where 16 bits are slower; on GPUs the 16 bits that
            the tensor cores of all of them have: mixed_bfloat16 from compute capability 8 on, mixed_float16 at 7, and
            float32 below.
        xla: one of `XLA`. "auto" compiles on a GPU where the run has padded rows, and never on a CPU.
        padded: whether the run has rows of few padded lengths in any case.

    Raises:
        InputError: a name that is none, or XLA on several devices.
    """
    check_arithmetic(precision, xla)
    import tensorflow as tf

    several = strategy.num_replicas_in_sync > 1
    if xla == "on" and several:
        raise InputError(f"--xla on compiles for one device, and this run has {strategy.num_replicas_in_sync}: say off")
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in tf.config.get_visible_devices("GPU")
    ]
    policy = _policy_for(capabilities) if precision == "auto" else precision
    return Arithmetic(policy, xla == "on" or (xla == "auto" and padded and bool(capabilities) and not several))


def _policy_for(capabilities: list[tuple[int, int]]) -> str:
    """The policy for GPUs of these compute capabilities, (major, minor); none of them is a CPU."""
    oldest = min((major for major, _ in capabilities), default=0)
    return "mixed_bfloat16" if oldest >= 8 else "mixed_float16" if oldest == 7 else "float32"
