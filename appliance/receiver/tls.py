"""DICOM over TLS on a port of its own (PS3.15 B): the certificate, and the handshake.

With a CA file both sides show certificates that it signed.  What comes over TLS is served by
pynetdicom: the bytes are decrypted in this process, so there is no socket to peek into.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from appliance.errors import NodeError
from appliance.receiver.connections import Connection
from appliance.receiver.guard import GuardedTlsSocket
from appliance.settings import Settings

Context = ssl.SSLContext


def context_of(settings: Settings) -> Context | None:
    """Read certificate, key and CA; None when TLS is off, NodeError when they cannot be used."""
    rules = settings.receiver
    if not rules.tls_port:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = GuardedTlsSocket
    for name, file in (
        ("tls_certificate_file", rules.tls_certificate_file),
        ("tls_key_file", rules.tls_key_file),
    ):
        if not file:
            raise NodeError(
                f"receiver.tls_port is set, and receiver.{name} is not",
                remedy=f"set receiver.{name}, or receiver.tls_port to 0",
            )
    certificate = settings.home / rules.tls_certificate_file
    key = settings.home / rules.tls_key_file
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise _unusable("certificate or key", [certificate, key], error) from error
    if rules.tls_ca_file:
        ca = settings.home / rules.tls_ca_file
        try:
            context.load_verify_locations(ca)
        except OSError as error:
            raise _unusable("CA file", [ca], error) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def shake_hands(context: Context, connection: Connection, seconds: float) -> GuardedTlsSocket:
    """Give the connection secured; OSError when its peer speaks no TLS, or not in time."""
    plain = connection.socket
    plain.settimeout(seconds)
    secured = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
    connection.socket = secured
    secured.do_handshake()
    assert isinstance(secured, GuardedTlsSocket)
    return secured


def words_of(error: Exception) -> str:
    """Say why a handshake failed, in one line."""
    if isinstance(error, TimeoutError):
        return "it did not come in time"
    return (getattr(error, "reason", "") or str(error) or type(error).__name__).lower()


def _unusable(what: str, files: list[Path], error: OSError) -> NodeError:
    names = " and ".join(str(file) for file in files)
    why = error.strerror or str(error)
    return NodeError(
        f"receiver: the TLS {what} cannot be used ({names}): {why}",
        remedy="write PEM files that the node's user can read, the key without a password",
    )
