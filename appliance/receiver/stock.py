"""pynetdicom's server for the associations of the stock path; it never listens itself.

Connections are handed to it by `process_request`, as socketserver would, each behind a guard
(`receiver.guard`).  What it calls at each event is `receiver.acceptor`'s.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from pynetdicom import AE, _config, timer
from pynetdicom.transport import (
    AddressInformation,
    RequestHandler,
    ThreadedAssociationServer,
)

from appliance import logs
from appliance.dicom.command_set import VERIFICATION
from appliance.dicom.names import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from appliance.receiver.acceptor import Acceptor
from appliance.receiver.connections import Connection
from appliance.receiver.garbage import Garbage
from appliance.receiver.guard import Guard, GuardedSocket, GuardedTlsSocket
from appliance.settings import Receiver, Settings

_NO_LIMIT = 1_000_000


class Stock:
    """The stock path of one process."""

    def __init__(
        self,
        settings: Settings,
        acceptor: Acceptor,
        garbage: Garbage,
        address: tuple[Any, ...],
        rules: Callable[[], Receiver],
    ) -> None:
        self._server = _make_server(settings, acceptor, address)
        self._garbage = garbage
        self._rules = rules

    def serve(self, connection: Connection, address: Any) -> None:
        """Hand over a connection of which nothing was read."""
        self._hand_over(GuardedSocket(connection.socket), connection, address)

    def serve_tls(self, connection: Connection, secured: GuardedTlsSocket, address: Any) -> None:
        """Hand over a connection whose handshake is done."""
        self._hand_over(secured, connection, address)

    def _hand_over(
        self, guarded: GuardedSocket | GuardedTlsSocket, connection: Connection, address: Any
    ) -> None:
        rules = self._rules()
        connection.is_association = True  # or soon: its end is pynetdicom's
        guard = Guard(rules.max_pdu_bytes, rules.pdu_timeout_seconds, connection.asked)
        guarded.watch_over(guard, connection, self._garbage.note)
        # pynetdicom reads a PDU to its end: one that stalls within it ends with this.
        guarded.settimeout(min(rules.network_timeout_seconds, rules.pdu_timeout_seconds))
        try:
            self._server.process_request(guarded, address)
        except (RuntimeError, MemoryError):  # no thread can be started
            guarded.close()
            raise


class _Server(ThreadedAssociationServer):
    """A server without a port."""

    def server_bind(self) -> None:
        """Bind nothing: let the socket that socketserver made go."""
        if self.socket is not None:
            self.socket.close()

    def server_activate(self) -> None:
        """Listen nowhere."""

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


class _Handler(RequestHandler):
    @property
    def local(self) -> AddressInformation:
        """Give the address that was called, not 0.0.0.0."""
        return AddressInformation.from_tuple(self.request.getsockname())


def _make_server(settings: Settings, acceptor: Acceptor, address: tuple[Any, ...]) -> _Server:
    """Make pynetdicom's server.

    Storage SOP classes, private and unknown ones among them, are accepted in every
    transfer syntax that is proposed, the requestor's first one first; Verification too.
    """
    rules = settings.receiver
    loosen()
    ae = AE(ae_title=settings.node.ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    ae.maximum_pdu_size = rules.max_pdu_bytes
    ae.maximum_associations = _NO_LIMIT  # admission counts them, over all children
    ae.acse_timeout = rules.association_timeout_seconds
    ae.dimse_timeout = rules.network_timeout_seconds
    ae.network_timeout = rules.network_timeout_seconds
    ae.add_supported_context(VERIFICATION)
    server = ae.make_server(
        address,
        evt_handlers=list(acceptor.handlers()),
        server_class=_Server,
        request_handler=_Handler,
    )
    assert isinstance(server, _Server)
    return server


def loosen() -> None:
    """Set what pynetdicom is to do in this process; both paths need it."""
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _config.LOG_HANDLER_LEVEL = "none"
    # pynetdicom 3.0 measures its timeouts by the wall clock: set ahead, it would take every
    # association that is open for lost; set back, none that is lost would end.
    timer.time = SimpleNamespace(time=time.monotonic)  # type: ignore[assignment,attr-defined]
    # What breaks PS3.5 is refused with a reason, which needs it to be read: pynetdicom
    # would abort the association for one bad AE title or UID.
    _config.VALIDATORS["AE"] = lambda value: (True, "")
    _config.VALIDATORS["UI"] = lambda value: (True, "")
