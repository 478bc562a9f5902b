"""What a container prints, let go while another thread reads its end."""

from __future__ import annotations

import socket

from appliance.worker.container import Output


def test_it_is_let_go_before_and_after_its_end() -> None:
    ours, engines = socket.socketpair()
    stream = socket.SocketIO(ours, "rb")
    engines.close()
    assert list(Output(stream)) == []
    stream.close()
    assert getattr(stream, "_sock", ours) is None, "as the reader of the end leaves it"
    Output(stream).close()
    ours.close()
