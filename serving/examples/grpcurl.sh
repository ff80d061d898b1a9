#!/bin/sh
# gRPC with grpcurl:
#   python serving/examples/protoset.py tensorflow_serving.protoset
#   serving/examples/grpcurl.sh [HOST:PORT]
# TF Serving does not describe itself (gRPC reflection), so grpcurl needs the protocol. Instead of the descriptors it
# takes the sources too: -import-path SERVING -import-path TENSORFLOW, the two projects' repositories, and
# -proto tensorflow_serving/apis/prediction_service.proto.
# With TLS: OPTIONS="-cacert serving/certificates/server.crt". In JSON, bytes are base64.
set -eu
target=${1:-localhost:8500}
call() {
  # shellcheck disable=SC2086
  grpcurl ${OPTIONS:--plaintext} -max-time 10 -protoset "${PROTOSET:-tensorflow_serving.protoset}" -d "$2" "$target" \
    "tensorflow.serving.$1"
}

call ModelService/GetModelStatus '{"modelSpec": {"name": "sentiment"}}'
call PredictionService/GetModelMetadata '{"modelSpec": {"name": "sentiment"}, "metadataField": ["signature_def"]}'
call PredictionService/Predict '{
  "modelSpec": {"name": "sentiment"},
  "inputs": {
    "text": {
      "dtype": "DT_STRING",
      "tensorShape": {"dim": [{"size": 2}]},
      "stringVal": ["'"$(printf 'a fine film' | base64)"'", "'"$(printf 'dull and long' | base64)"'"]
    }
  }
}'
