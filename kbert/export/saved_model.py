"""A SavedModel that takes raw strings and returns final answers, for the stock TF Serving container."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

from kbert.errors import InputError
from kbert.export import cpp_loader
from kbert.export.assets import FOLDER, write_assets
from kbert.export.heads import check_names, inference, shared_tokenizers, shared_weights, stored_weights
from kbert.export.ops import RUNTIMES, check_graph
from kbert.export.signatures import Signature, signatures_of
from kbert.export.warmup import write_warmup
from kbert.files import new_folder
from kbert.tasks.task import Task

_log = logging.getLogger(__name__)
DEFAULT_SIGNATURE = "serving_default"


def export_saved_model(
    model: Task,
    target: str | Path,
    version: int = 1,
    verify: bool = True,
    *,
    source: str | Path | None = None,
    runtimes: Sequence[str] = RUNTIMES,
    warmup: bool = True,
) -> Path:
    """Write `target/version` for TF Serving, whole or not at all.

    The graph holds the tokenizer, computes on real tokens only and uses no XLA, which TF Serving disables. Every
    weight is stored once. Beside `serving_default` a classifier has a signature `classify` or `regress` for
    `tf.Example`.

    Args:
        model: a task model.
        target: the model's folder; its name is the name that clients ask for.
        version: TF Serving serves the highest version in the folder.
        verify: run the result in TensorFlow's C++ loader, as TF Serving will, before it takes its place.
        source: the folder that the model comes from, whose model card and metrics go along.
        runtimes: those of `kbert.export.ops.RUNTIMES` that must have all ops of the graph.
        warmup: write requests that TF Serving warms the model up with.

    Returns:
        The version's folder.

    Raises:
        InputError: the version exists, the target cannot be written, or a runtime cannot run the graph.
    """
    return export_heads(
        {DEFAULT_SIGNATURE: model},
        target,
        version,
        verify,
        sources={DEFAULT_SIGNATURE: source},
        runtimes=runtimes,
        warmup=warmup,
    )


def export_heads(
    models: Mapping[str, Task],
    target: str | Path,
    version: int = 1,
    verify: bool = True,
    *,
    sources: Mapping[str, str | Path | None] | None = None,
    runtimes: Sequence[str] = RUNTIMES,
    warmup: bool = True,
) -> Path:
    """Write several models over one encoder as one SavedModel, in which the encoder's weights are stored once.

    Each has a signature of its name, and NAME_classify or NAME_regress; those of the first are `serving_default`,
    `classify` and `regress` too. Each signature computes the encoder for itself: what is shared is memory, not time.

    Args:
        models: by name; their encoders have the same weights, as those trained with it frozen.
        target: as in `export_saved_model`, as are the others.
        version: see there.
        verify: see there.
        sources: the models' folders, by name.
        runtimes: see there.
        warmup: see there.

    Returns:
        The version's folder.

    Raises:
        InputError: as there; encoders that differ; names that no signature can have.
    """
    target = Path(target)
    folder = target / str(version)
    check_target(target, version)
    check_names(list(models))
    _log.info("writing %s", folder)
    with shared_tokenizers(models):
        module, signatures = _module(models)
    with new_folder(folder) as partial:
        _save(module, signatures, partial)
        saved = saved_model_pb2.SavedModel.FromString((partial / "saved_model.pb").read_bytes())
        check_graph(saved.meta_graphs[0].graph_def, runtimes)
        (partial / FOLDER).mkdir()
        folders = {name: Path(source) for name, source in (sources or {}).items() if source is not None}
        write_assets(partial / FOLDER, models, signatures, folders)
        if warmup:
            write_warmup(partial / FOLDER, target.resolve().name, signatures)
        if verify:
            _log.info("checking it in TensorFlow's C++ loader")
            _verify(partial, signatures)
    return folder


def _module(models: Mapping[str, Task]) -> tuple[tf.Module, dict[str, Signature]]:
    """The models as a bare module, and its signatures.

    It lists the variables and keeps the Keras models in closures only: a tf.Module that holds a Keras model saves, and
    loads in Python, but fails in the C++ loader (tensorflow issue 72963).
    """
    shared = shared_weights(models)
    signatures: dict[str, Signature] = {}
    for i, (name, model) in enumerate(models.items()):
        prefix = "" if name == DEFAULT_SIGNATURE else f"{name}_"
        own = signatures_of(name, prefix, model, inference(model, shared[name]))
        if i == 0:
            aliases = (DEFAULT_SIGNATURE, model.example_api)
            signatures |= {str(alias): signature for alias, signature in zip(aliases, own.values(), strict=False)}
        elif taken := signatures.keys() & own.keys():
            raise InputError(f"two models have a signature {min(taken)!r}: give {name!r} another name")
        signatures |= own
    module = tf.Module()
    module.vars = stored_weights(models, shared)
    return module, signatures


def _save(module: tf.Module, signatures: Mapping[str, Signature], folder: Path) -> None:
    functions = {name: signature.function for name, signature in signatures.items()}
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # nothing trains there
    with warnings.catch_warnings():
        # TensorFlow's own saver warns about its own deprecated names.
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, str(folder), signatures=functions, options=options)
    # The saver writes Predict's method name only.
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name, signature in signatures.items():
        updater.replace_method_name(name, signature.method_name)
    updater.save()
    fingerprinting_utils.write_fingerprint(str(folder))


def _verify(folder: Path, signatures: Mapping[str, Signature]) -> None:
    """Compare the C++ loader's answers with the models' own."""
    calls, expected = [], []
    for name, signature in signatures.items():
        tokenizer = signature.model.tokenizer
        texts = ["", f"An example, with 例子 in it. {tokenizer.config.mask_token}"]
        columns = [texts] * len(signature.model.input_names)
        calls.append((name, signature.inputs(columns)))
        expected.append(signature.expected(columns))
    answered = cpp_loader.run_all_in_cpp_loader(folder, calls)
    for (name, _), answers, wanted in zip(calls, answered, expected, strict=True):
        _compare(name, answers, wanted)


def _compare(signature: str, answers: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    for name, wanted in expected.items():
        same = answers[name].shape == wanted.shape and (
            np.array_equal(answers[name], wanted)
            if wanted.dtype == object
            else np.allclose(answers[name], wanted, atol=1e-4)
        )
        if not same:
            raise InputError(
                f"TensorFlow's C++ loader answers {answers[name]} as {name} of {signature}, the model itself {wanted}"
            )


def next_version(target: Path) -> int:
    """The first version above all that a model's folder holds."""
    versions = [int(path.name) for path in target.glob("*") if re.fullmatch("[0-9]+", path.name)]
    return max(versions, default=0) + 1


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
