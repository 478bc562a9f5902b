"""Certificates of a test's own: a CA, and what it signs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.kit import require


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A CA that lives for a day."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.own = Pair(folder / "ca.pem", folder / "ca.key")
        _openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=Test CA",
            "-keyout", self.own.key, "-out", self.own.certificate,
        )  # fmt: skip

    def sign(self, name: str) -> Pair:
        """Give a certificate for a peer of 127.0.0.1."""
        made = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        asked, says = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        says.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        _openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
            "-keyout", made.key, "-out", asked,
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", asked, "-CA", self.own.certificate, "-CAkey", self.own.key,
            "-CAcreateserial", "-days", "1", "-extfile", says, "-out", made.certificate,
        )  # fmt: skip
        return made


def _openssl(*words: str | Path) -> None:
    program = require.program("openssl", "openssl")
    subprocess.run([program, *map(str, words)], check=True, capture_output=True, timeout=60)
