"""How pygearman connects: with patience that ends, and noticing a peer that went silently."""

from __future__ import annotations

import socket

from gearman.connection import GearmanConnection
from gearman.errors import GearmanError, InvalidAdminClientState, ServerUnavailable

from appliance.errors import QueueUnavailable

CONNECT_SECONDS = 5.0

# What comes out of pygearman when gearmand is away, dies in the middle or talks nonsense.
# KeyError and ValueError: a connection that was dropped while its commands were still read.
TROUBLE = (GearmanError, OSError, KeyError, ValueError)


class Connection(GearmanConnection):  # type: ignore[misc]
    """pygearman's connection, which by itself waits for the kernel's two minutes to connect."""

    def _create_client_socket(self) -> None:
        try:
            found = socket.create_connection(
                (self.gearman_host, self.gearman_port), timeout=CONNECT_SECONDS
            )
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            self.throw_exception(exception=error)
        self.set_socket(found)


def unavailable(servers: tuple[str, ...], why: object) -> QueueUnavailable:
    """Say that no server does what is asked, and what to do."""
    names = ", ".join(servers)
    if isinstance(why, ServerUnavailable):  # its own words are a list of Python objects
        why = "no connection can be made"
    elif isinstance(why, InvalidAdminClientState):
        why = "it said nothing in time"
    return QueueUnavailable(
        f"gearmand at {names} does not answer: {why}",
        remedy="brookbox doctor (queued jobs are kept in the index and run when it is back)",
    )
