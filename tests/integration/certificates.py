"""Certificates of servers and clients, and the authority that signs them."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """Certificates made by openssl: ``ca.crt``, servers' for 127.0.0.1 and other names, a client's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca.crt"
        self._openssl("req", "-x509", "-subj", "/CN=Test authority", "-out", "ca.crt", "-keyout", "ca.key")
        self.server = self._signed("server", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self.other = self._signed("other", "subjectAltName=DNS:localhost,DNS:other.example")
        self.client = self._signed("client", "extendedKeyUsage=clientAuth")

    def _openssl(self, *arguments: str) -> None:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9")
        subprocess.run(["openssl", *arguments, *key], cwd=self.directory, check=True, capture_output=True)

    def _signed(self, name: str, extension: str) -> Path:
        """A certificate and its key in one file."""
        certificate, key = f"{name}.crt", f"{name}.key"
        self._openssl(
            "req", "-x509", "-subj", f"/CN={name}", "-addext", extension,
            "-addext", "basicConstraints=critical,CA:FALSE",
            "-CA", "ca.crt", "-CAkey", "ca.key", "-out", certificate, "-keyout", key,
        )  # fmt: skip
        both = self.directory / f"{name}.pem"
        both.write_bytes((self.directory / certificate).read_bytes() + (self.directory / key).read_bytes())
        return both
