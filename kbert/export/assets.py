"""What stands beside an exported graph for those who operate it: `assets.extra/`, and a report of sizes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kbert.export.ops import all_nodes
from kbert.export.signatures import Signature
from kbert.files import read_json, write_json
from kbert.tasks.task import Task

FOLDER = "assets.extra"
"""The folder that the SavedModel format leaves to others; its content takes no part in loading."""


def write_assets(
    folder: Path, models: Mapping[str, Task], signatures: Mapping[str, Signature], sources: Mapping[str, Path | None]
) -> None:
    """Write `kbert.json`, and the model cards of the folders that the models come from.

    Args:
        folder: an existing one.
        models: by name.
        signatures: by name.
        sources: the models' folders by the same names, as far as they have any: their README.md is copied, their
            metrics.json goes into `kbert.json`.
    """
    described = {}
    for i, (name, model) in enumerate(models.items()):
        source = sources.get(name)
        described[name] = _described(model) | {"metrics": _metrics(source)}
        if source and (source / "README.md").is_file():
            shutil.copyfile(source / "README.md", folder / (f"README.{name}.md" if i else "README.md"))
    content = {
        "kbert": version("kbert"),
        "tensorflow": version("tensorflow"),
        "models": described,
        "signatures": {name: signature.method_name for name, signature in signatures.items()},
    }
    write_json(folder / "kbert.json", content)


def _described(model: Task) -> dict[str, Any]:
    known = model.known_labels()
    return {
        **model.task.to_dict(),
        "labels": list(known) if known is not None else None,
        "inputs": list(model.input_names),
        "dtype": str(model.compute_dtype),
        "encoder": model.encoder.config.to_dict(),
        "tokenizer": model.tokenizer.config.to_dict(),
    }


def _metrics(source: Path | None) -> Any:
    """What metrics.json of a run says; None where there is none."""
    path = source / "metrics.json" if source else None
    return read_json(path) if path and path.is_file() else None


def size_report(folder: Path) -> dict[str, Any]:
    """What an exported version takes: bytes on the disk in all and of its parts, ops, and the names of signatures."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
    sizes = {path.relative_to(folder): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    of_part = {
        part: sum(size for path, size in sizes.items() if path.parts[0] == part)
        for part in ("variables", "saved_model.pb", FOLDER)
    }
    return {
        "bytes": sum(sizes.values()),
        "weights_bytes": of_part["variables"],
        "graph_bytes": of_part["saved_model.pb"],
        "assets_bytes": of_part[FOLDER],
        "ops": sum(1 for _ in all_nodes(saved.graph_def)),
        "signatures": sorted(name for name, definition in saved.signature_def.items() if definition.method_name),
    }
