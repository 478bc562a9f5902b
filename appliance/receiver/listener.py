"""The listening sockets, opened once before the fork.

Children share them: the kernel gives each connection to one of those that wait, and a child
that dies loses only its own connections.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from dataclasses import dataclass

from appliance.errors import NodeError
from appliance.receiver import door, tls
from appliance.settings import Receiver, Settings

_BACKLOG = 512
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Listening:
    """The port for DICOM, and the one for DICOM over TLS where it is on."""

    plain: socket.socket
    secured: socket.socket | None = None
    tls_context: tls.Context | None = None

    def shut(self) -> None:
        """Accept nothing more, in every process that shares them."""
        for one in (self.plain, self.secured):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self.close()

    def close(self) -> None:
        """Let them go in this process; the last one frees the port."""
        for one in (self.plain, self.secured):
            if one is not None:
                one.close()


def open_all(settings: Settings) -> Listening:
    """Listen; NodeError when a port cannot be had, or TLS cannot be used."""
    rules = settings.receiver
    context = tls.context_of(settings)
    plain = _open(rules, rules.port, "port")
    if context is None:
        return Listening(plain)
    try:
        return Listening(plain, _open(rules, rules.tls_port, "tls_port"), context)
    except NodeError:
        plain.close()
        raise


def _open(rules: Receiver, port: int, setting: str) -> socket.socket:
    """Listen on a port.

    A receiver that was killed leaves children that close the port within a moment, so
    a port in use is asked for again before it is given up.
    """
    family = socket.AF_INET6 if ":" in rules.address else socket.AF_INET
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            listening = socket.create_server(
                (rules.address, port),
                family=family,
                backlog=_BACKLOG,
                dualstack_ipv6=rules.address == "::",
            )
            door.prepare(listening)
            return listening
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise _no_port(rules, port, setting, error) from error
            time.sleep(0.1)


def _no_port(rules: Receiver, port: int, setting: str, error: OSError) -> NodeError:
    where = f"{rules.address}:{port}"
    if error.errno == errno.EADDRINUSE:
        return NodeError(
            f"receiver: another program listens on {where}",
            remedy=f"see who with: ss -ltnp 'sport = :{port}'; stop it, or set receiver.{setting}",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return NodeError(
            f"receiver: this user may not listen on {where}",
            remedy=f"set receiver.{setting} to 1024 or more, such as 11113",
        )
    return NodeError(
        f"receiver: cannot listen on {where}: {error.strerror}",
        remedy="set receiver.address to an address of this machine, or to 0.0.0.0",
    )
