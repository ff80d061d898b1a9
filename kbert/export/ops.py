"""Which ops each TF Serving has, and the refusal of a graph that holds others.

The lists in op_sets/ come from the libraries of TensorFlow and tf-text that each TF Serving has linked
(tests/export/write_op_sets.py).
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from kbert.errors import InputError

RUNTIMES = ("tf-serving==2.19", "tf-serving==2.20")


@dataclass(frozen=True)
class OpSet:
    """What one TF Serving can run."""

    runtime: str
    """One of `RUNTIMES`."""
    graph_version: int
    """The newest GraphDef that it reads."""
    ops: Mapping[str, frozenset[str]]
    """Op -> its attributes."""


@functools.cache
def op_set(runtime: str) -> OpSet:
    """The ops of a TF Serving.

    Raises:
        InputError: there is no list of its ops.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"a target must be one of {', '.join(RUNTIMES)}. Received: {runtime!r}")
    file = resources.files("kbert.export") / "op_sets" / f"{runtime.replace('==', '-')}.txt.gz"
    head, *lines = gzip.decompress(file.read_bytes()).decode("ascii").splitlines()
    rows = (line.split() for line in lines)
    return OpSet(runtime, int(head.split()[1]), {op: frozenset(attributes) for op, *attributes in rows})


def check_graph(graph: Any, runtimes: Sequence[str] = RUNTIMES) -> None:
    """Refuse a GraphDef that a TF Serving would not load or run.

    Args:
        graph: its main graph and its functions are looked at.
        runtimes: those of `RUNTIMES` that must run it.

    Raises:
        InputError: an op, or an attribute of one, that a runtime lacks, named with the node and the function that hold
            it; XLA, which TF Serving has switched off; a graph newer than the runtime.
    """
    sets = [op_set(runtime) for runtime in runtimes]
    for known in sets:
        if graph.versions.min_consumer > known.graph_version:
            raise InputError(
                f"{known.runtime} reads graphs up to version {known.graph_version}; this one asks for "
                f"{graph.versions.min_consumer}: export with an older TensorFlow"
            )
    functions = {function.signature.name for function in graph.library.function}
    for function, node in all_nodes(graph):
        place = f"node {node.name!r}" + (f" of function {function!r}" if function else "")
        if node.attr["_XlaMustCompile"].b if "_XlaMustCompile" in node.attr else False:
            raise InputError(f"{place} is to be compiled by XLA, which TF Serving has switched off: no jit_compile")
        if node.op not in functions:
            for known in sets:
                _check_node(node, known, place)


def _check_node(node: Any, known: OpSet, place: str) -> None:
    if node.op not in known.ops:
        raise InputError(
            f"{known.runtime} has no op {node.op!r}, which {place} needs: use other ops there, or name a target that "
            f"has it (there are {', '.join(RUNTIMES)})"
        )
    # Names that begin with "_" are hints, which a runtime that does not know them passes over.
    unknown = sorted(name for name in node.attr if name[0] != "_" and name not in known.ops[node.op])
    if unknown:
        raise InputError(
            f"{known.runtime} does not know the attribute {unknown[0]!r} of op {node.op!r}, which {place} sets: leave "
            "it at its default there"
        )


def all_nodes(graph: Any) -> Iterator[tuple[str, Any]]:
    """The nodes of a GraphDef, each with the name of its function; "" for those of the main graph."""
    yield from (("", node) for node in graph.node)
    for function in graph.library.function:
        yield from ((function.signature.name, node) for node in function.node_def)
