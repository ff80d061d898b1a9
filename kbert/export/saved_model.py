"""A SavedModel that takes raw strings and returns final answers, for the stock TF Serving container."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

from kbert.errors import InputError
from kbert.files import new_folder
from kbert.tasks.task import Task

_log = logging.getLogger(__name__)
DEFAULT_SIGNATURE = "serving_default"


def export_saved_model(model: Task, target: str | Path, version: int = 1, verify: bool = True) -> Path:
    """Write `target/version` for TF Serving, whole or not at all.

    The graph holds the tokenizer, computes on real tokens only and uses no XLA, which TF Serving disables. Every
    weight is stored once.

    Args:
        model: a task model.
        target: the model's folder; its name is the name that clients ask for.
        version: TF Serving serves the highest version in the folder.
        verify: run the result in TensorFlow's C++ loader, as TF Serving will, before it takes its place.

    Returns:
        The version's folder.

    Raises:
        InputError: the version exists, or the target cannot be written.
    """
    target = Path(target)
    folder = target / str(version)
    check_target(target, version)
    _log.info("writing %s", folder)
    module = _serving_module(model)
    with new_folder(folder) as partial:
        with warnings.catch_warnings():
            # TensorFlow's own saver warns about its own deprecated names.
            warnings.simplefilter("ignore")
            tf.saved_model.save(module, str(partial), signatures={DEFAULT_SIGNATURE: module.serve})
        if verify:
            _log.info("checking it in TensorFlow's C++ loader")
            _verify(partial, model)
    return folder


def _verify(folder: Path, model: Task) -> None:
    """Compare the C++ loader's answers with the model's own."""
    from kbert.export.cpp_loader import run_in_cpp_loader

    texts = ["", f"An example, with 例子 in it. {model.tokenizer.config.mask_token}"]
    names = model.input_names
    answers = run_in_cpp_loader(folder, dict.fromkeys(names, texts))
    for name, expected in model.predict((texts,) * len(names) if len(names) > 1 else texts).items():
        same = answers[name].shape == expected.shape and (
            np.array_equal(answers[name], expected)
            if expected.dtype == object
            else np.allclose(answers[name], expected, atol=1e-4)
        )
        if not same:
            raise InputError(f"TensorFlow's C++ loader answers {answers[name]} as {name}, the model itself {expected}")


def next_version(target: Path) -> int:
    """The first version above all that a model's folder holds."""
    versions = [int(path.name) for path in target.glob("*") if re.fullmatch("[0-9]+", path.name)]
    return max(versions, default=0) + 1


def _serving_module(model: Task) -> tf.Module:
    """The model as a bare module.

    It lists the variables and keeps the Keras model in a closure only: a tf.Module that holds a Keras model saves, and
    loads in Python, but fails in the C++ loader (tensorflow issue 72963).
    """
    names = model.input_names

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=name) for name in names], autograph=False)
    def serve(*texts):
        features = model.features(*texts)
        answers = model.answers(model.infer(features), features, *texts)
        return {
            name: tf.cast(value, tf.float32) if value.dtype.is_floating else value for name, value in answers.items()
        }

    module = tf.Module()
    module.vars = [variable.value for variable in model.variables]
    module.serve = serve
    return module


def check_target(target: Path, version: int) -> None:
    """Refuse a version that exists, and a target that TF Serving would not serve under its name."""
    if version < 1:
        raise InputError(f"a version must be 1 or more. Received: {version}")
    if not re.fullmatch(r"[\w.-]+", target.resolve().name):
        raise InputError(f"{target}: a model's name has letters, digits, '.', '_' and '-' only")
    if target.is_file():
        raise InputError(f"{target} is a file: name a folder for the model's versions")
    if models := [path.parent.parent.name for path in target.glob("*/*/saved_model.pb")]:
        raise InputError(
            f"{target} holds models ({', '.join(sorted(set(models)))}): name a folder in it, {target}/NAME"
        )
    if (target / str(version)).exists():
        raise InputError(
            f"{target} holds version {version} already: add --version {next_version(target)} to export beside it, "
            "or name another target"
        )
