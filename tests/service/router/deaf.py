"""A peer that never reads."""

from __future__ import annotations

import socket
import threading

from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
)

CT = (CTImageStorage, ExplicitVRLittleEndian)


class DeafAfterAccept:
    """An SCP that accepts the association, and never reads again."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._server.accept()
            except OSError:
                return
            self._open.append(one)
            one.recv(65536)
            one.sendall(accepting())

    @property
    def has_accepted(self) -> bool:
        """Say whether an association is open."""
        return bool(self._open)

    def close(self) -> None:
        self._server.close()
        for one in self._open:
            one.close()


def accepting() -> bytes:
    """Encode an A-ASSOCIATE-AC that takes CT in Explicit VR Little Endian."""
    from pynetdicom.pdu import A_ASSOCIATE_AC
    from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification
    from pynetdicom.presentation import build_context

    accept = A_ASSOCIATE()
    accept.application_context_name = "1.2.840.10008.3.1.1.1"
    accept.calling_ae_title, accept.called_ae_title = "BROOKBOX", "PACS0"
    context = build_context(*CT)
    context.context_id, context.result = 1, 0
    accept.presentation_context_definition_results_list = [context]
    accept.user_information = [MaximumLengthNotification()]
    return A_ASSOCIATE_AC(accept).encode()
