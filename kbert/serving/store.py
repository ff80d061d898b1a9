"""The folder of models: what is there is served, the highest version of each, and changes are followed."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tensorflow_serving.apis import get_model_status_pb2

from kbert.errors import InputError
from kbert.serving.calls import Code, ServingError, logger
from kbert.serving.metrics import Metrics
from kbert.serving.options import ServerOptions
from kbert.serving.versions import LoadedModel, State, Version

Fingerprint = frozenset[tuple[str, int, int]]


@dataclass
class _Served:
    """What is known of one model."""

    answering: Version | None = None
    versions: dict[int, Version] = field(default_factory=dict)
    """Every one that was ever begun with; those that have ended hold no memory but this record."""
    broken: tuple[int, Fingerprint] | None = None
    """The version that failed last, and its files then: it is tried again when they have changed."""


class ModelStore:
    """The models below one folder: the highest version of each answers, as by TF Serving's default policy.

    A new highest version is loaded and warmed up before the one that answers is let go, which ends when its requests
    have their answers. If it does not load, the other goes on. A version or a model whose folder is gone is unloaded.

    Args:
        root: holds `NAME/VERSION/saved_model.pb`; or is one model's folder, which holds `VERSION/saved_model.pb`.
        options: how often to look, and how requests are batched.
        metrics: are told of each batch.

    Raises:
        InputError: there is no model below `root`.
    """

    def __init__(self, root: Path, options: ServerOptions | None = None, metrics: Metrics | None = None):
        # Resolved, because the last part of "." or ".." names no model.
        self._root = Path(root).resolve()
        self._is_model = bool(_versions(self._root))
        self._options = options or ServerOptions()
        self._metrics = metrics or Metrics()
        self._models: dict[str, _Served] = {}
        self._retired: list[Version] = []
        self._ended: list[Version] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        if not self._is_model and not (self._root.is_dir() and self._folders()):
            mend = "export a model there first"
            if (self._root / "saved_model.pb").is_file():
                mend = (
                    f"this is one version of a model; give its parent folder {self._root.parent}, and name it a number"
                )
            raise InputError(f"no model to serve: {root} holds no NAME/VERSION/saved_model.pb; {mend}")

    # === Life ===

    def start(self) -> list[Version]:
        """Load the highest version of every model, and follow the folder from then on.

        Returns:
            What answers now.

        Raises:
            InputError: one of them does not load, or a warm-up request fails.
        """
        self._stopping.clear()
        for name, folders in sorted(self._folders().items()):
            try:
                self._bring_up(name, max(folders), folders)
            except ServingError as error:
                raise InputError(str(error)) from error
        self._thread = threading.Thread(target=self._follow, name="kbert-poll", daemon=True)
        self._thread.start()
        return [served.answering for served in self._models.values() if served.answering is not None]

    def stop(self) -> None:
        """Follow the folder no more, and unload everything as soon as its requests have their answers."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for served in self._models.values():
            self._replace(served, None)

    def poll(self) -> None:
        """Look at the folder once, and follow what has changed."""
        self._free()
        try:
            folders = self._folders()
        except OSError as error:
            logger.warning("%s cannot be looked at (%s): what is served goes on", self._root, error.strerror)
            return
        for name in [name for name in self._models if name not in folders]:
            self._replace(self._models[name], None)
        for name, versions in sorted(folders.items()):
            if self._is_new(name, max(versions), versions):
                try:
                    self._bring_up(name, max(versions), versions)
                except (InputError, ServingError) as error:
                    logger.error("model %r version %d is not served: %s", name, max(versions), error)

    # === Asking ===

    @contextmanager
    def lease(self, name: str, version: int | None = None) -> Iterator[LoadedModel]:
        """What answers for a model, as long as the block lasts.

        Raises:
            ServingError: NOT_FOUND, naming what there is.
        """
        with ExitStack() as stack:
            with self._lock:  # so that it cannot be retired in between
                loaded = stack.enter_context(self._find(name, version).lease())
            yield loaded

    def status(self, name: str, version: int | None = None) -> get_model_status_pb2.GetModelStatusResponse:
        """The states of a model's versions, the highest first.

        Raises:
            ServingError: NOT_FOUND, naming what there is.
        """
        with self._lock:
            served = self._models.get(name)
            versions = dict(served.versions) if served else {}
        if version is not None:
            versions = {number: versions[number] for number in versions if number == version}
        if not versions:
            known = "there is no such model" if served is None else "there is no such version"
            raise ServingError(Code.NOT_FOUND, f"{_called(name, version)}: {known}; there are {sorted(self._models)}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number in sorted(versions, reverse=True):
            found = versions[number]
            status = response.model_version_status.add(version=number, state=int(found.state))
            status.status.SetInParent()  # a client sees an OK only if the field is there
            status.status.error_code, status.status.error_message = found.error_code, found.error
        return response

    def names(self) -> list[str]:
        """The models that stand in the folder now, loaded or not."""
        return sorted(self._folders())

    def is_ready(self) -> bool:
        """Whether every model that is known has a version that answers."""
        with self._lock:
            models = list(self._models.values())
        return bool(models) and all(served.answering or _has_ended(served) for served in models)

    def _find(self, name: str, version: int | None) -> Version:
        served = self._models.get(name)
        if served is None:
            raise ServingError(Code.NOT_FOUND, f"there is no model {name!r}; there are {sorted(self._models)}")
        if served.answering is None or version not in (None, served.answering.number):
            there = {number: found.state.name for number, found in sorted(served.versions.items())}
            raise ServingError(Code.NOT_FOUND, f"{_called(name, version)} is not served; its versions are {there}")
        return served.answering

    # === Following ===

    def _follow(self) -> None:
        while not self._stopping.wait(self._options.poll_seconds):
            try:
                self.poll()
            except Exception:  # one look that fails must not be the last
                logger.exception("looking at %s failed", self._root)

    def _is_new(self, name: str, number: int, folders: Mapping[int, Path]) -> bool:
        served = self._models.get(name)
        if served is None:
            return True
        if served.answering is not None and served.answering.number == number:
            return False
        return served.broken is None or served.broken != (number, _fingerprint(folders[number]))

    def _bring_up(self, name: str, number: int, folders: Mapping[int, Path]) -> None:
        """Load a version, and let it answer in the place of the one that did."""
        fingerprint = _fingerprint(folders[number])  # of before: what changes meanwhile is to be tried again
        version = Version(name, number, folders[number], self._options, self._metrics)
        with self._lock:
            served = self._models.setdefault(name, _Served())
            served.versions[number] = version
        try:
            version.load()
        except Exception:
            served.broken = (number, fingerprint)
            raise
        served.broken = None
        self._replace(served, version)

    def _replace(self, served: _Served, version: Version | None) -> None:
        with self._lock:
            before, served.answering = served.answering, version
        if before is not None:
            before.retire()
            self._retired.append(before)

    def _free(self) -> None:
        """Free what had ended by the last look, and so has no thread any more.

        A SavedModel is full of cycles, and would stay in memory until Python comes to them.
        """
        if self._ended:
            gc.collect()
        self._ended = [version for version in self._retired if version.state is State.END]
        self._retired = [version for version in self._retired if version not in self._ended]

    def _folders(self) -> dict[str, dict[int, Path]]:
        """Model name -> version -> folder, as they are on disk now."""
        children = sorted(self._root.iterdir())  # OSError if the root is gone, which is no reason to unload all
        candidates = [self._root] if self._is_model else children
        found = {folder.name: _versions(folder) for folder in candidates}
        return {name: versions for name, versions in found.items() if versions}


def _versions(folder: Path) -> dict[int, Path]:
    """Version -> folder, for the folders named by a number that hold a SavedModel."""
    if not folder.is_dir():
        return {}
    numbered = [child for child in folder.iterdir() if re.fullmatch("[0-9]{1,18}", child.name)]
    return {int(child.name): child for child in numbered if (child / "saved_model.pb").is_file()}


def _fingerprint(folder: Path) -> Fingerprint:
    """Names, sizes and times of all files below a folder."""
    stats = ((str(path), path.stat()) for path in folder.rglob("*") if path.is_file())
    return frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _has_ended(served: _Served) -> bool:
    return all(version.state is State.END and not version.error for version in served.versions.values())


def _called(name: str, version: int | None) -> str:
    return f"model {name!r}" + ("" if version is None else f" version {version}")
