#!/bin/sh
# REST:
#   serving/examples/curl.sh [URL]
# With the profile tls of docker-compose.yaml: URL https://localhost:8443, and CA=serving/certificates/server.crt.
set -eu
url=${1:-http://localhost:8501}/v1/models/sentiment
ask() {
  curl --silent --show-error --fail-with-body --max-time 10 --retry 3 --retry-connrefused ${CA:+--cacert "$CA"} "$@"
  echo
}

ask "$url"                                                                            # the state of each version
ask "$url/metadata"                                                                   # inputs and outputs
ask --data '{"instances": ["a fine film", "dull and long"]}' "$url:predict"           # rows
ask --data '{"inputs": {"text": ["a fine film", "dull and long"]}}' "$url:predict"    # columns
ask --data '{"instances": ["a fine film"]}' "$url/versions/1:predict"                 # a version by its number
if [ -n "${LABEL:-}" ]; then
  ask --data '{"instances": ["a fine film"]}' "$url/labels/$LABEL:predict"            # a version by its label
fi
