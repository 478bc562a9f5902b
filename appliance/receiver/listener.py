"""The listening socket, opened once before the fork, and pynetdicom's server on top of it.

Children share the socket: the kernel gives each connection to one of them, and a
child that dies loses only its own connections.
"""

from __future__ import annotations

import contextvars
import errno
import socket
import sys
import time
from collections.abc import Callable, Sequence
from socketserver import BaseServer
from types import SimpleNamespace
from typing import Any

from pynetdicom import AE, _config, timer
from pynetdicom.transport import (
    AddressInformation,
    RequestHandler,
    ThreadedAssociationServer,
)

from appliance import logs
from appliance.dicom.names import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from appliance.errors import NodeError
from appliance.receiver.pulse import Watch
from appliance.settings import Receiver, Settings

_BACKLOG = 128
_PATIENCE_SECONDS = 5.0
_NO_LIMIT = 1_000_000
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_EXHAUSTED_PAUSE_SECONDS = 0.1
_ASSOCIATE_RQ = 0x01
_VERIFICATION = "1.2.840.10008.1.1"


def open_socket(rules: Receiver) -> socket.socket:
    """Listen; NodeError when the port cannot be had.

    A receiver that was killed leaves children that close the port within a moment, so
    a port in use is asked for again before it is given up.
    """
    family = socket.AF_INET6 if ":" in rules.address else socket.AF_INET
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            listening = socket.create_server(
                (rules.address, rules.port),
                family=family,
                backlog=_BACKLOG,
                dualstack_ipv6=rules.address == "::",
            )
            # Another child may have been faster: accept must not wait then.
            listening.setblocking(False)
            return listening
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise _no_port(rules, error) from error
            time.sleep(0.1)


def make_server(
    listening: socket.socket,
    settings: Settings,
    handlers: Sequence[tuple[Any, Callable[..., Any]]],
    watch: Watch,
) -> SharedServer:
    """Make pynetdicom's server on a socket that listens already.

    Storage SOP classes, private and unknown ones among them, are accepted in every
    transfer syntax that is proposed, the requestor's first one first; Verification too.
    """
    rules = settings.receiver
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _config.LOG_HANDLER_LEVEL = "none"
    # pynetdicom 3.0 measures its timeouts by the wall clock: set ahead, it would take every
    # association that is open for lost; set back, none that is lost would end.
    timer.time = SimpleNamespace(time=time.monotonic)  # type: ignore[assignment,attr-defined]
    # What breaks PS3.5 is refused with a reason, which needs it to be read: pynetdicom
    # would abort the association for one bad AE title or UID.
    _config.VALIDATORS["AE"] = lambda value: (True, "")
    _config.VALIDATORS["UI"] = lambda value: (True, "")
    ae = AE(ae_title=settings.node.ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    ae.maximum_pdu_size = rules.max_pdu_bytes
    ae.maximum_associations = _NO_LIMIT  # admission counts them, over all children
    ae.acse_timeout = rules.association_timeout_seconds
    ae.dimse_timeout = rules.network_timeout_seconds
    ae.network_timeout = rules.network_timeout_seconds
    ae.add_supported_context(_VERIFICATION)
    server = ae.make_server(
        listening.getsockname(),
        evt_handlers=list(handlers),
        server_class=SharedServer,
        request_handler=_Handler,
        listening=listening,
        watch=watch,
    )
    assert isinstance(server, SharedServer)
    return server


class SharedServer(ThreadedAssociationServer):
    """A server on a socket that was opened, and is used, by others too."""

    def __init__(self, *args: Any, listening: socket.socket, watch: Watch, **words: Any) -> None:
        self._listening = listening
        self._watch = watch
        self._context = contextvars.copy_context()
        super().__init__(*args, **words)

    def server_bind(self) -> None:
        """Take the listening socket in the place of the new one that socketserver made."""
        if self.socket is not None:
            self.socket.close()
        self.socket = self._listening
        self.server_address = self.socket.getsockname()

    def server_activate(self) -> None:
        """Leave the socket as it is: it listens."""

    def service_actions(self) -> None:
        """Note that the loop goes round, as it does with each look at the socket."""
        self._watch.note_turn()
        super().service_actions()

    def server_close(self) -> None:
        """Close this process's descriptor only: a shutdown would end the others' listening."""
        if self.socket is not None:
            self.socket.close()

    def shutdown(self) -> None:
        """Accept no more here.  pynetdicom's own would look for this server in its list."""
        BaseServer.shutdown(self)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say why a connection is closed; that no thread can be started is said in a line."""
        error = sys.exception()
        is_known = isinstance(error, RuntimeError | MemoryError | OSError)
        logs.get().error(
            "connection not served",
            address=client_address[0],
            why=str(error) or type(error).__name__,
            exc_info=None if is_known else error,
        )

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Carry what is bound to the log into the association's threads."""
        self._context.copy().run(super().process_request_thread, request, client_address)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; one that stalls within a PDU ends with the network timeout."""
        try:
            connection, address = super().get_request()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                # It is still in the queue: without a pause it would be tried for ever at once.
                time.sleep(_EXHAUSTED_PAUSE_SECONDS)
            raise
        # pynetdicom answers in small writes: with Nagle each would wait for a delayed ACK.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.settimeout(self.ae.network_timeout)
        return connection, address


class _Handler(RequestHandler):
    @property
    def local(self) -> AddressInformation:
        """Give the address that was called, not 0.0.0.0."""
        return AddressInformation.from_tuple(self.request.getsockname())


def unreadable_ae_title(pdu: bytes) -> str:
    """Name the AE title of an A-ASSOCIATE-RQ that pynetdicom cannot read: calling or called.

    It answers those with A-ABORT, where PS3.8 9.3.4 has reasons to reject them.  "" is
    neither, and any other PDU.
    """
    if len(pdu) < 42 or pdu[0] != _ASSOCIATE_RQ:
        return ""
    titles = {"calling": pdu[26:42], "called": pdu[10:26]}
    unreadable = (which for which, t in titles.items() if not t.strip() or not t.isascii())
    return next(unreadable, "")


def reject_pdu(result: int, source: int, reason: int) -> bytes:
    """Encode an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return bytes([0x03, 0, 0, 0, 0, 4, 0, result, source, reason])


def _no_port(rules: Receiver, error: OSError) -> NodeError:
    where = f"{rules.address}:{rules.port}"
    if error.errno == errno.EADDRINUSE:
        return NodeError(
            f"receiver: another program listens on {where}",
            remedy=f"see who with: ss -ltnp 'sport = :{rules.port}'; stop it, or set receiver.port",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return NodeError(
            f"receiver: this user may not listen on {where}",
            remedy="set receiver.port to 1024 or more, such as 11113",
        )
    return NodeError(
        f"receiver: cannot listen on {where}: {error.strerror}",
        remedy="set receiver.address to an address of this machine, or to 0.0.0.0",
    )
