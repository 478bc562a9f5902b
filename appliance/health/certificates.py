"""Until when the certificates hold that the node was asked to watch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.health.alerts import Certificate
from appliance.settings import Settings


def watched(settings: Settings) -> list[str]:
    """List the files to watch: those of the settings, and the receiver's own where it has TLS."""
    own = [settings.receiver.tls_certificate_file] if settings.receiver.tls_port else []
    return list(dict.fromkeys([*settings.alerts.certificates, *own]))


def look(home: Path, files: Sequence[str]) -> list[Certificate]:
    """Read each PEM file; of a chain the certificate that expires first counts."""
    return [_look(home / file, file) for file in files]


def _look(path: Path, file: str) -> Certificate:
    from cryptography import x509  # when used: it is large, and few watch one

    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
        return Certificate(file, min(one.not_valid_after_utc for one in chain))
    except OSError as error:
        return Certificate(file, None, error.strerror or str(error))
    except ValueError:
        return Certificate(file, None, "it has no certificate in PEM form")
