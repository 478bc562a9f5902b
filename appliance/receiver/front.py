"""What becomes of each connection: crowd, patience, and which path serves it.

Nothing is taken from the socket until that is known, so that pynetdicom finds it untouched.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field
from typing import Any

from appliance.dicom import pdu
from appliance.receiver import direct, load, peek, request, tls
from appliance.receiver.admission import Reject, Request
from appliance.receiver.connections import Connection, Connections
from appliance.receiver.direct import Direct
from appliance.receiver.garbage import Garbage
from appliance.receiver.judge import UNREADABLE, plain
from appliance.receiver.negotiation import Negotiator
from appliance.receiver.peek import NoRequest, Peeked
from appliance.receiver.request import Malformed, Path
from appliance.receiver.stock import Stock
from appliance.settings import Receiver

_MOST_TOLD = 16  # at once, of those that are told that they are too many


@dataclass(frozen=True, slots=True)
class Front:
    """What the doors of one process share."""

    connections: Connections
    direct: Direct
    stock: Stock
    negotiator: Negotiator
    garbage: Garbage
    _telling: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_MOST_TOLD))

    def serve(self, peer: socket.socket, address: Any) -> None:
        """Serve a connection to its end, or hand it to pynetdicom."""
        connection = self._placed(peer, address)
        if connection is None:
            return
        try:
            asked = self._asked(connection)
            if asked is None:
                return
            connection.asked()
            if self._path_of(asked) is Path.DIRECT:
                self.direct.serve(connection, asked.request)
            else:
                self.stock.serve(connection, address)
        except Malformed as error:
            self.garbage.note(connection.address, str(error))
            direct.tell(peer, pdu.abort(pdu.BY_PROVIDER, pdu.INVALID_PARAMETER))
        finally:
            if peer.fileno() >= 0:  # else it is pynetdicom's now
                direct.close(peer)
                connection.leave()

    def serve_tls(self, peer: socket.socket, address: Any, context: tls.Context) -> None:
        """Shake hands, and hand the connection to pynetdicom."""
        connection = self._placed(peer, address)
        if connection is None:
            return
        try:
            secured = tls.shake_hands(context, connection, self._rules.header_timeout_seconds)
        except (OSError, ValueError) as error:
            self.garbage.note(connection.address, f"no TLS handshake: {tls.words_of(error)}")
            connection.socket.close()
            connection.leave()
            return
        self.stock.serve_tls(connection, secured, address)

    @property
    def _rules(self) -> Receiver:
        return self.direct.rules()

    def _placed(self, peer: socket.socket, address: Any) -> Connection | None:
        """Give a connection its place; None when it was closed, since there is none for it."""
        rules, who = self._rules, plain(address[0])
        most = 0 if rules.behind_nat else rules.max_connections_per_address
        with self.direct.watch.step():
            if self.connections.is_crowded(who, most) and not self.connections.give_way_of(who):
                why = f"{most} connections of its address are open"
                why += ": receiver.max_connections_per_address."
                connection = None
            elif not load.leaves_descriptors(peer.fileno()) and not self.connections.give_way():
                why = "The receiving process has too many files and connections open."
                connection = None
            else:
                why = "All connections that may be open are: receiver.max_associations."
                connection = self.connections.take(peer, who)
        if connection is None:
            self._turn_away(peer, who, Reject(2, 3, 2, why))
        return connection

    def _turn_away(self, peer: socket.socket, address: str, verdict: Reject) -> None:
        """Close one that is too many; the first of them learn why."""
        try:
            if self._telling.acquire(blocking=False):
                try:
                    self.direct.judge.refuse(Request("?", "?", address), verdict)
                    direct.tell(peer, pdu.reject(verdict.result, verdict.source, verdict.reason))
                finally:
                    self._telling.release()
        finally:
            peer.close()

    def _asked(self, connection: Connection) -> Peeked | None:
        """Wait for a request; None when there is none, or it was refused already."""
        rules = self._rules
        try:
            asked = peek.request_of(
                connection.socket,
                rules.header_timeout_seconds,
                rules.association_timeout_seconds,
            )
        except NoRequest as none:
            self.garbage.note(connection.address, str(none))
            if none.answer:
                direct.tell(connection.socket, none.answer)
            return None
        if asked is not None and (which := request.unreadable_ae_title(asked.request)):
            verdict = UNREADABLE[which]
            self.direct.judge.refuse(Request("?", "?", connection.address), verdict)
            answer = pdu.reject(verdict.result, verdict.source, verdict.reason)
            direct.tell(connection.socket, answer)
            return None
        return asked

    def _path_of(self, asked: Peeked) -> Path:
        if not asked.is_whole:
            return Path.STOCK
        if self.negotiator.knows(asked.request):
            return Path.DIRECT
        return request.path_of(asked.request)
