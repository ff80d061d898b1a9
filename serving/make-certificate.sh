#!/bin/sh
# A self-signed certificate for trying TLS on one machine, and TF Serving's ssl.config made of it:
#   serving/make-certificate.sh [FOLDER [NAME...]]
# Clients get server.crt as the authority to trust. For production, have an authority sign, and keep the key out of git.
set -eu
folder=${1:-$(dirname "$0")/certificates}
[ $# -eq 0 ] || shift
names="DNS:localhost,DNS:tensorflow-serving,IP:127.0.0.1"
for name in "$@"; do
  names="$names,DNS:$name"
done
mkdir -p "$folder"
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 30 -subj "/CN=localhost" \
  -addext "subjectAltName=$names" -keyout "$folder/server.key" -out "$folder/server.crt"

# A text proto has no strings of several lines, but joins strings that follow each other.
quoted() {
  sed 's/.*/  "&\\n"/' "$1"
}
{
  echo "server_key:"
  quoted "$folder/server.key"
  echo "server_cert:"
  quoted "$folder/server.crt"
} > "$folder/ssl.config"
chmod 644 "$folder/server.crt"
echo "$folder: server.key, server.crt and ssl.config, for $names"
