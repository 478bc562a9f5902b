"""The questions of the heartbeat, asked of real peers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from appliance.health import answers
from appliance.settings import Queue, Receiver, Settings, Web
from tests.kit.gearmand import Gearmand
from tests.kit.waiting import free_port


@pytest.fixture
def scp() -> Iterator[int]:
    """A node that answers echoes to AE title ME only."""
    ae = AE("ME")
    ae.require_called_aet = True
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_node_that_answers_is_well(scp: int) -> None:
    assert answers.echo("127.0.0.1", scp, "ME", "TEST", 5) == ""


def test_a_refused_association_is_said(scp: int) -> None:
    assert "refuses the association" in answers.echo("127.0.0.1", scp, "YOU", "TEST", 5)


def test_a_receiver_that_refuses_us_for_good_is_well(scp: int) -> None:
    """Its rules keep our AE title out, and it would say so again after a restart."""
    here = Settings(receiver=Receiver(address="127.0.0.1", port=scp))
    assert answers.receiver_answers(here, 5) == ""


def test_a_receiver_that_cannot_judge_is_not_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_reject_for_now, args=(listening,), daemon=True).start()
        here = Settings(receiver=Receiver(address="127.0.0.1", port=listening.getsockname()[1]))
        assert "refuses the association for now" in answers.receiver_answers(here, 5)


def _reject_for_now(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(bytes([0x03, 0, 0, 0, 0, 4, 0, 2, 3, 1]))  # A-ASSOCIATE-RJ


def test_nobody_there_is_said() -> None:
    port = free_port()
    assert f"no answer at 127.0.0.1:{port}" in answers.echo("127.0.0.1", port, "ME", "ME", 5)


def test_a_peer_that_says_nothing_is_given_up(mute: int) -> None:
    assert "timed out" in answers.echo("127.0.0.1", mute, "ME", "ME", 0.2)
    settings = Settings(web=Web(port=mute))
    assert "timed out" in answers.web_answers(settings, 0.2)


def test_a_peer_that_hangs_up_is_said(mute: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=lambda: listening.accept()[0].close(), daemon=True).start()
        port = listening.getsockname()[1]
        assert "no answer" in answers.echo("127.0.0.1", port, "ME", "ME", 5)


def test_gearmand_is_known_by_its_version(scp: int) -> None:
    gearmand = Gearmand()
    try:
        settings = Settings(queue=Queue(servers=(gearmand.server,)))
        assert answers.gearmand_answers(settings) == ""
    finally:
        gearmand.kill()
    assert "no answer" in answers.gearmand_answers(settings)
