"""What a client needs for TLS, read from PEM files and checked before the first request."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from kbert.errors import InputError

PemFile = str | os.PathLike[str] | None


class Tls:
    """Whom a client trusts, and how it shows who it is.

    Args:
        root_certificates: PEM file of the authorities to trust; None: the public ones.
        client_certificate: PEM file of a key and the certificates that vouch for it; None: the client shows none.

    Raises:
        InputError: a file cannot be read, or is not what it has to be.
    """

    def __init__(self, root_certificates: PemFile = None, client_certificate: PemFile = None):
        self.root_certificates = None if root_certificates is None else _read("root_certificates", root_certificates)
        self.client_certificate = (
            None if client_certificate is None else _read("client_certificate", client_certificate)
        )
        self.context = ssl.create_default_context()
        """For the standard library; gRPC takes the content of the files."""
        try:
            if self.root_certificates is not None:
                self.context = ssl.create_default_context(cadata=self.root_certificates.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise InputError(
                f"`root_certificates` must be a PEM file of certificates. Received: {root_certificates}"
            ) from error
        try:
            if client_certificate is not None:
                self.context.load_cert_chain(client_certificate, password="")
        except (ssl.SSLError, OSError) as error:
            raise InputError(
                "`client_certificate` must be a PEM file of a key without a password and its certificates. "
                f"Received: {client_certificate}"
            ) from error


def _read(name: str, path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"`{name}` cannot be read: {path} ({error.strerror})") from error
