"""What a LiteRT file says of itself: names, labels, vocabulary, as MediaPipe and Task Library read them.

The form is TensorFlow Lite's metadata_schema.fbs (package tflite-support, version 1.4): a flatbuffer in the model's
metadata under the name TFLITE_METADATA, and the files it names appended to the model as a zip archive. The classes here
are tables of that schema, and their comments its field numbers.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np

_ENTRY, _IDENTIFIER, _MODEL_IDENTIFIER = b"TFLITE_METADATA", b"M001", b"TFL3"
_PARSER_VERSION = "1.1.0"  # the first that knows BertTokenizerOptions
_AXIS_LABELS, _VOCABULARY = 2, 5  # AssociatedFileType
_FEATURE_PROPERTIES, _BERT_TOKENIZER_OPTIONS = 1, 4  # of the unions ContentProperties and ProcessUnitOptions
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # so that equal models are equal files


@dataclass(frozen=True)
class TensorInfo:
    """An input or an output by its name in the model's signature."""

    name: str
    description: str
    labels_file: str = ""
    """Of the names along the last axis, one a line; "": there are none."""
    range: tuple[float, float] | None = None
    """The lowest and the highest value; None: any."""


@dataclass(frozen=True)
class ModelInfo:
    """A model and its tensors."""

    name: str
    description: str
    version: str
    author: str
    license: str
    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    vocabulary_file: str = ""
    """Of the BertTokenizer that makes the inputs, a token a line; "": nothing is to be tokenized."""


def with_metadata(model: bytes, info: ModelInfo, files: Mapping[str, bytes]) -> bytes:
    """A LiteRT model with its metadata and the files these name.

    Args:
        model: As the converter gives it, with one signature.
        info: Describes every tensor of the signature.
        files: The content of `labels_file` and `vocabulary_file`, by name.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    graph = schema.ModelT.InitFromPackedBuf(model)
    signature, main = graph.signatureDefs[0], graph.subgraphs[0]
    inputs = _in_order(info.inputs, signature.inputs, main.inputs)
    outputs = _in_order(info.outputs, signature.outputs, main.outputs)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(_metadata(info, inputs, outputs), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _ENTRY, len(graph.buffers)
    graph.buffers.append(buffer)
    graph.metadata = [*(graph.metadata or []), entry]
    builder = _AlignedBuilder(len(model) + len(buffer.data) + 1024)
    builder.Finish(graph.Pack(builder), _MODEL_IDENTIFIER)
    whole = io.BytesIO(bytes(builder.Output()))
    if files:
        with zipfile.ZipFile(whole, "a") as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content)
    return whole.getvalue()


def _in_order(infos: Sequence[TensorInfo], names: Sequence[Any], tensors: Sequence[int]) -> list[TensorInfo]:
    """The tensors of a signature in the order of the graph, by which metadata is matched to them."""
    by_name = {info.name: info for info in infos}
    by_tensor = {pair.tensorIndex: by_name[pair.name.decode()] for pair in names}
    return [by_tensor[tensor] for tensor in tensors]


class _AlignedBuilder(flatbuffers.Builder):
    """Puts weights at multiples of 16 bytes, as TensorFlow's schema asks (`force_align`) and Python's code forgets."""

    def CreateNumpyVector(self, x):
        self.Prep(16, x.nbytes)
        return super().CreateNumpyVector(x)


# === Tables ===


class _Table(dict):
    """Field numbers to values: text, a table, a list of them or of float, or a `_Byte`; "" and [] are left out."""


class _Byte(int):
    """An enum, or the kind of a union."""


def _metadata(info: ModelInfo, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> bytes:
    tokenizer = []
    if info.vocabulary_file:
        vocabulary = _file(info.vocabulary_file, "The tokens by their ids.", _VOCABULARY)
        options = _Table({0: [vocabulary]})  # BertTokenizerOptions: vocab_file
        tokenizer = [_Table({0: _Byte(_BERT_TOKENIZER_OPTIONS), 1: options})]  # ProcessUnit: options
    subgraph = _Table(
        {
            2: [_tensor(tensor) for tensor in inputs],  # input_tensor_metadata
            3: [_tensor(tensor) for tensor in outputs],  # output_tensor_metadata
            5: tokenizer,  # input_process_units
        }
    )
    model = _Table(
        {
            0: info.name,
            1: info.description,
            2: info.version,
            3: [subgraph],  # subgraph_metadata
            4: info.author,
            5: info.license,
            7: _PARSER_VERSION,  # min_parser_version
        }
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(_written(builder, model), _IDENTIFIER)
    return bytes(builder.Output())


def _tensor(info: TensorInfo) -> _Table:
    low, high = ([info.range[0]], [info.range[1]]) if info.range else ([], [])
    stats = _Table({0: high, 1: low})  # Stats: max, min
    labels = [_file(info.labels_file, "What the values stand for.", _AXIS_LABELS)] if info.labels_file else []
    content = _Table({0: _Byte(_FEATURE_PROPERTIES), 1: _Table()})  # Content: content_properties
    # TensorMetadata: name, description, content, stats, associated_files
    return _Table({0: info.name, 1: info.description, 3: content, 5: stats, 6: labels})


def _file(name: str, description: str, kind: int) -> _Table:
    return _Table({0: name, 1: description, 2: _Byte(kind)})  # AssociatedFile: name, description, type


def _written(builder: flatbuffers.Builder, value: Any) -> int:
    """Write text, a list or a table; returns its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list) and isinstance(value[0], float):
        return builder.CreateNumpyVector(np.array(value, np.float32))
    if isinstance(value, list):
        offsets = [_written(builder, item) for item in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    fields = {number: field for number, field in value.items() if field not in ("", [])}
    offsets_of = {n: _written(builder, field) for n, field in fields.items() if not isinstance(field, _Byte)}
    builder.StartObject(max(fields, default=0) + 1)
    for number, field in fields.items():
        if isinstance(field, _Byte):
            builder.PrependInt8Slot(number, field, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, offsets_of[number], 0)
    return builder.EndObject()
