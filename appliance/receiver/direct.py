"""An association of the direct path: admitted, served by the thread that accepted it, ended.

PS3.8 9.2's states without a machine: a request that is whole, an association, its end.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from appliance import logs
from appliance.dicom import pdu
from appliance.dicom.command_set import VERIFICATION
from appliance.index.states import Ending
from appliance.intake.way import Way, Ways
from appliance.receiver.admission import Accept, Reject, Request
from appliance.receiver.associations import Associations, OpenAssociation
from appliance.receiver.connections import Connection
from appliance.receiver.hot_loop import Abort, HotLoop, Lost
from appliance.receiver.judge import Judge, sender_of
from appliance.receiver.negotiation import Negotiated, Negotiator
from appliance.receiver.peek import set_patience
from appliance.receiver.pulse import Watch
from appliance.receiver.request import Malformed
from appliance.settings import Receiver

_LONGEST_TICK_SECONDS = 10.0
# What pynetdicom's codecs raise for what a peer sent.
_CODEC_ERRORS = (ValueError, TypeError, LookupError, AttributeError, struct.error)
_DRAIN_SECONDS = 1.0
_MOST_DRAINED = 1 << 22


@dataclass(frozen=True, slots=True)
class Direct:
    """What the direct associations of one process share."""

    judge: Judge
    negotiator: Negotiator
    associations: Associations
    ways: Ways
    watch: Watch
    rules: Callable[[], Receiver]

    def serve(self, connection: Connection, asked: bytes) -> None:
        """Serve a connection whose whole request was peeked, to its end.

        Raises Malformed when pynetdicom cannot read the request, OSError when the
        connection is lost before the association is there.
        """
        peer = connection.socket
        try:
            answer = self.negotiator.answer(asked)
        except _CODEC_ERRORS as error:
            raise Malformed(f"pynetdicom cannot read the request: {error}") from error
        request = Request(
            called_ae_title=answer.called_ae_title,
            calling_ae_title=answer.calling_ae_title,
            address=connection.address,
            is_echo_only=answer.is_echo_only,
        )
        verdict = self.judge.verdict(request)
        if isinstance(verdict, Reject):
            _take(peer, len(asked))
            self.judge.refuse(request, verdict)
            peer.sendall(pdu.reject(verdict.result, verdict.source, verdict.reason))
            return
        try:
            peer.sendall(answer.accepted)
            # Behind the answer: meanwhile its peer begins.
            _take(peer, len(asked))
            one = self._opened(connection, verdict, request)
        except OSError:
            self.judge.withdraw(request)
            raise
        ending = Ending.LOST
        try:
            ending = self._served(connection, one, answer)
        finally:
            self.watch.leave(one.step)
            self.associations.close(one, ending)

    def _opened(
        self, connection: Connection, accepted: Accept, request: Request
    ) -> OpenAssociation:
        local_address, local_port, *_ = connection.socket.getsockname()
        _, port, *_ = connection.socket.getpeername()
        one = OpenAssociation(
            sender=sender_of(accepted, request, port, local_address, local_port),
            level=accepted.level,
            is_recorded=not request.is_echo_only,
            end=connection.cut_reading,
            step=self.watch.follow(),
        )
        connection.is_association = one.is_recorded
        self.associations.open(one)
        return one

    def _served(self, connection: Connection, one: OpenAssociation, answer: Negotiated) -> Ending:
        """Run the loop; an end that is ours is told to the peer."""
        rules = self.rules()
        tick = min(_LONGEST_TICK_SECONDS, rules.network_timeout_seconds, rules.pdu_timeout_seconds)
        set_patience(connection.socket, tick)
        ways = self._ways_of(one, answer)
        loop = HotLoop(connection.socket, one, ways, self.rules)
        try:
            return loop.run()
        except Abort as abort:
            logs.get().warning("association aborted", association=one.id, why=str(abort))
            tell(connection.socket, pdu.abort(pdu.BY_PROVIDER, abort.reason))
            return Ending.ABORTED
        except (Lost, OSError) as lost:
            if one.is_aborted_by_us:
                tell(connection.socket, pdu.abort(pdu.BY_USER))
                return Ending.ABORTED
            logs.get().info("association lost", association=one.id, why=str(lost))
            tell(connection.socket, pdu.abort(pdu.BY_PROVIDER))
            return Ending.LOST
        finally:
            for way in filter(None, ways.values()):
                way.close()

    def _ways_of(self, one: OpenAssociation, answer: Negotiated) -> dict[int, Way | None]:
        return {
            number: None
            if context.abstract_syntax_uid == VERIFICATION
            else self.ways.way(
                one.sender,
                one.level,
                context.abstract_syntax_uid,
                context.transfer_syntax_uid,
                one.tally,
            )
            for number, context in answer.contexts.items()
        }


def close(peer: socket.socket) -> None:
    """Close a connection; what was sent last still reaches its peer."""
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_WR)
    peer.close()


def _take(peer: socket.socket, count: int) -> None:
    """Take from the socket what was peeked."""
    left = count
    while left:
        taken = len(peer.recv(left))
        if not taken:
            raise ConnectionError("the connection was closed")
        left -= taken


def tell(peer: socket.socket, words: bytes) -> None:
    """Send a last PDU, and read what is still coming, so that no reset overtakes it."""
    with contextlib.suppress(OSError):
        peer.sendall(words)
        peer.shutdown(socket.SHUT_WR)
        set_patience(peer, _DRAIN_SECONDS)
        until, read = time.monotonic() + _DRAIN_SECONDS, 0
        while time.monotonic() < until and read < _MOST_DRAINED:
            some = len(peer.recv(65536))
            if not some:
                return
            read += some
