"""What every command needs: numbers from arguments, JSON to stdout, TensorFlow without its start-up notes."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from typing import Any


def load_tensorflow() -> None:
    """Import TensorFlow with its start-up notes held back, so that stderr speaks of the user's work.

    TF_CPP_MIN_LOG_LEVEL does not reach the notes that are written before logging is set up. If the import fails, all
    of them are shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's other work runs on
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow as tf
            import tensorflow_text  # noqa: F401

            tf.config.list_physical_devices()  # looks for a GPU, and notes that there is none
        except BaseException:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text!r}")
    return int(text)


def print_json(content: Any) -> None:
    print(json.dumps(content, ensure_ascii=False), flush=True)
