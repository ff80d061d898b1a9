"""What a file for phones can be, by name. No TensorFlow, so that the command's help is quick."""

from __future__ import annotations

INPUT_KINDS = ("ids", "characters", "text")
"""What a file takes; see `kbert.mobile.inputs`."""
UNCALIBRATED = ("none", "fp16", "int8")
"""How weights are stored where activations stay float32, which needs no texts to measure them on."""
QUANTIZATIONS = (*UNCALIBRATED, "full-int8")
