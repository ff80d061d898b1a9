"""Write TF Serving's protocol as one file of descriptors, from the stubs that tensorflow-serving-api installs:

    python serving/examples/protoset.py tensorflow_serving.protoset

Clients that read descriptors (grpcurl, the Go and Node.js examples here) then need neither .proto files nor protoc.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2


def collect(file: FileDescriptor, files: dict[str, FileDescriptor]) -> None:
    """Add a file after all that it imports, each once."""
    if file.name not in files:
        for dependency in file.dependencies:
            collect(dependency, files)
        files[file.name] = file


def main() -> None:
    files: dict[str, FileDescriptor] = {}
    for module in (prediction_service_pb2, model_service_pb2):
        collect(module.DESCRIPTOR, files)
    protocol = descriptor_pb2.FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(protocol.file.add())
    Path(sys.argv[1]).write_bytes(protocol.SerializeToString())


if __name__ == "__main__":
    main()
