"""TLS: the certificate that `serving/make-certificate.sh` makes, in servers that clients must trust first."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format
from serving.fakes import FakeRest, Script, add_services
from serving.text_protos import SSLConfig

from kbert.cli import main
from kbert.errors import InputError
from kbert.serving.client import Client

FOLDER = Path(__file__).parents[2] / "serving"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    script = FOLDER / "make-certificate.sh"
    subprocess.run([script, folder, "server.example.com"], check=True, capture_output=True)
    return folder


@contextmanager
def rest_server(context):
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeRest)
    server.script = Script()
    # The handshake in the connection's own thread: one that fails must not end the server.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda request, address: None
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def targets(certificates):
    """A gRPC server with what ssl.config says, as TF Serving reads it, and a REST server with the same certificate."""
    config = text_format.Parse((certificates / "ssl.config").read_text(), SSLConfig())
    credentials = grpc.ssl_server_credentials([(config.server_key.encode(), config.server_cert.encode())])
    secure = grpc.server(ThreadPoolExecutor(2))
    add_services(Script(), secure)
    grpc_port = secure.add_secure_port("localhost:0", credentials)
    secure.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    with rest_server(context) as rest_port:
        yield {"grpc": f"localhost:{grpc_port}", "rest": f"https://localhost:{rest_port}"}
    secure.stop(None).wait()


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_server_whose_authority_is_named(targets, certificates, protocol):
    with Client(targets[protocol], root_certificates=certificates / "server.crt") as client:
        assert client.status("mood") == {3: "AVAILABLE"}
        assert client.predict("mood", {"text": ["a"]})["score"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("protocol", "prefix", "words"),
    [("grpc", "grpcs://", "no gRPC server answers"), ("rest", "", "not trusted.*root_certificates")],
)
def test_a_server_nobody_vouches_for(targets, protocol, prefix, words):
    with Client(prefix + targets[protocol], retries=0) as client, pytest.raises(ConnectionError, match=words):
        client.status("mood")


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_certificate_for_another_name(targets, certificates, protocol):
    target = targets[protocol].replace("localhost", "127.0.0.2")
    with (
        Client(target, timeout=5, retries=0, root_certificates=certificates / "server.crt") as client,
        pytest.raises(ConnectionError),
    ):
        client.status("mood")


def test_wrong_settings(tmp_path):
    with pytest.raises(InputError, match="cannot be read: .*missing"):
        Client("localhost:8500", root_certificates=tmp_path / "missing")
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(InputError, match="PEM file of certificates"):
        Client("localhost:8500", root_certificates=tmp_path / "key.pem")
    with pytest.raises(InputError, match="PEM file of a key without a password"):
        Client("localhost:8500", client_certificate=tmp_path / "key.pem")


def test_authorities_need_a_target_with_tls(certificates):
    with pytest.raises(InputError, match="https://"):
        Client("http://localhost:8501", root_certificates=certificates / "server.crt")


def test_authorities_that_are_no_certificates(tmp_path):
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n")
    with pytest.raises(InputError, match="ca.pem"):
        Client("https://localhost:8501", root_certificates=tmp_path / "ca.pem")


def test_asking_from_the_command_line(targets, certificates, capsys):
    arguments = ["ask", "mood", "a", "--target", targets["rest"], "--retries", "0"]
    assert main([*arguments, "--tls-ca", str(certificates / "server.crt")]) == 0
    assert '"score": 0.5' in capsys.readouterr().out
    assert main(arguments) == 1
    assert "--tls-ca" in capsys.readouterr().err


@pytest.fixture(scope="module")
def picky(certificates):
    """Servers that let in only clients with a certificate of this authority, TF Serving's `client_verify`."""
    authority, key = (certificates / name for name in ("server.crt", "server.key"))
    pair = (key.read_bytes(), authority.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], authority.read_bytes(), require_client_auth=True)
    secure = grpc.server(ThreadPoolExecutor(2))
    add_services(Script(), secure)
    grpc_port = secure.add_secure_port("localhost:0", credentials)
    secure.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    with rest_server(context) as rest_port:
        yield {"grpc": f"localhost:{grpc_port}", "rest": f"https://localhost:{rest_port}"}
    secure.stop(None).wait()


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_server_that_wants_to_know_its_clients(picky, certificates, tmp_path, protocol):
    authority = certificates / "server.crt"
    identity = tmp_path / "client.pem"
    identity.write_bytes((certificates / "server.key").read_bytes() + authority.read_bytes())
    with Client(picky[protocol], root_certificates=authority, client_certificate=identity) as client:
        assert client.status("mood") == {3: "AVAILABLE"}
    with Client(picky[protocol], retries=0, root_certificates=authority) as client, pytest.raises(ConnectionError):
        client.status("mood")


def test_the_certificate_is_for_the_names_asked_for(certificates):
    arguments = ["openssl", "x509", "-in", certificates / "server.crt", "-noout", "-ext", "subjectAltName"]
    names = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    for name in ("DNS:localhost", "DNS:tensorflow-serving", "DNS:server.example.com", "IP Address:127.0.0.1"):
        assert name in names
    assert (certificates / "server.key").stat().st_mode & 0o077 == 0
    assert (certificates / "ssl.config").stat().st_mode & 0o077 == 0


@pytest.mark.skipif(shutil.which("caddy") is None, reason="needs caddy")
def test_the_proxy(certificates, server, tmp_path):
    """serving/proxy/Caddyfile, by Caddy itself, in front of the local server."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = (FOLDER / "proxy" / "Caddyfile").read_text(encoding="utf-8").replace(":8443", f":{port}")
    (tmp_path / "Caddyfile").write_text(text, encoding="utf-8")
    upstream = {"UPSTREAM": f"127.0.0.1:{server.rest_port}", "CERTIFICATES": str(certificates), "HOME": str(tmp_path)}
    command = ["caddy", "run", "--config", tmp_path / "Caddyfile", "--adapter", "caddyfile"]
    proxy = subprocess.Popen(command, env={**os.environ, **upstream}, stderr=subprocess.DEVNULL)
    try:
        target = f"https://localhost:{port}"
        with Client(target, root_certificates=certificates / "server.crt") as client:
            client.wait_until_ready("sentiment", timeout=20)
            assert client.predict("sentiment", {"text": ["fine"]})["label"].tolist() == ["positive"]
            with pytest.raises(InputError, match="'none'"):
                client.status("none")
        # What the proxy does not pass on: its 404 is not TF Serving's.
        hidden = Client(f"{target}/monitoring", root_certificates=certificates / "server.crt")
        with hidden, pytest.raises(ConnectionError, match="does not speak"):
            hidden.status("sentiment")
    finally:
        proxy.terminate()
        proxy.wait(10)
