"""Messages of TF Serving's configuration files that tensorflow-serving-api does not carry.

Names, numbers and types as in TF Serving 2.20's tensorflow_serving/config/{ssl_config,monitoring_config}.proto and
tensorflow_serving/servables/tensorflow/session_bundle_config.proto (Apache-2.0); of BatchingParameters the fields
for a server as a whole.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

FIELD = descriptor_pb2.FieldDescriptorProto
INT64 = ".google.protobuf.Int64Value"
MESSAGES = {
    "SSLConfig": [
        ("server_key", 1, FIELD.TYPE_STRING),
        ("server_cert", 2, FIELD.TYPE_STRING),
        ("custom_ca", 3, FIELD.TYPE_STRING),
        ("client_verify", 4, FIELD.TYPE_BOOL),
    ],
    "PrometheusConfig": [("enable", 1, FIELD.TYPE_BOOL), ("path", 2, FIELD.TYPE_STRING)],
    "MonitoringConfig": [("prometheus_config", 1, ".kbert.test.PrometheusConfig")],
    "BatchingParameters": [
        ("max_batch_size", 1, INT64),
        ("batch_timeout_micros", 2, INT64),
        ("max_enqueued_batches", 3, INT64),
        ("num_batch_threads", 4, INT64),
        ("thread_pool_name", 5, ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, FIELD.TYPE_INT64),
        ("pad_variable_length_inputs", 7, FIELD.TYPE_BOOL),
    ],
}


def _build():
    file = descriptor_pb2.FileDescriptorProto(name="kbert/test/text_protos.proto", package="kbert.test")
    file.syntax = "proto3"
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            repeated = field_name == "allowed_batch_sizes"
            label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = FIELD.TYPE_MESSAGE, kind
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"kbert.test.{name}")) for name in MESSAGES
    }


CLASSES = _build()
SSLConfig = CLASSES["SSLConfig"]
MonitoringConfig = CLASSES["MonitoringConfig"]
BatchingParameters = CLASSES["BatchingParameters"]
