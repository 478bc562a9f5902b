"""The bell, with a real gearmand that is also killed."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from appliance.errors import QueueUnavailable
from appliance.queue import depth
from appliance.queue.functions import ae_title_of, function_of
from appliance.queue.listen import Ears, listen
from appliance.queue.rings import Ring, Rings
from tests.kit.gearmand import Gearmand
from tests.kit.waiting import free_port, wait_for


@pytest.fixture
def gearmand() -> Iterator[Gearmand]:
    one = Gearmand()
    yield one
    one.kill()


class Lane:
    """A listener in a thread, with what it heard; `busy` holds its callback."""

    def __init__(self, server: str, ae_title: str, look_again_seconds: float = 30) -> None:
        self.heard: list[int | None] = []
        self.busy = threading.Event()
        self.busy.set()
        self._stop = threading.Event()
        ears = Ears(self._on_ring, self._stop.is_set, look_again_seconds)
        self._thread = threading.Thread(target=listen, args=([server], ae_title, "lane-1", ears))
        self._thread.start()

    def _on_ring(self, job_id: int | None) -> None:
        self.heard.append(job_id)
        self.busy.wait(20)

    def stop(self) -> float:
        self.busy.set()
        began = time.monotonic()
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()
        return time.monotonic() - began


@pytest.fixture
def lane(gearmand: Gearmand) -> Iterator[Lane]:
    one = Lane(gearmand.server, "ProcPics x")
    yield one
    one.stop()


def test_every_ae_title_has_a_function_name_that_gives_it_back() -> None:
    for ae_title in ("ECHO", "ProcPics", "A B", "%41", 'x"/$(id)', "~" * 16):
        name = function_of(ae_title)
        assert b" " not in name
        assert ae_title_of(name.decode()) == ae_title
    assert function_of("Echo") != function_of("ECHO")
    assert ae_title_of("somebody.else") is None


def test_a_ring_reaches_the_lane_before_it_looks_by_itself(gearmand: Gearmand, lane: Lane) -> None:
    rings = Rings([gearmand.server])
    wait_for(lambda: lane.heard == [None], "the lane looked once by itself")
    rings.ring(11, "ProcPics x", 0)
    wait_for(lambda: 11 in lane.heard, "the first ring was heard")
    rings.ring(12, "ProcPics x", 1)
    wait_for(lambda: 12 in lane.heard, "the second ring was heard", 15)
    assert lane.heard.count(None) == 1
    rings.close()


def test_status_shows_the_ring_as_running_while_the_callback_works(
    gearmand: Gearmand, lane: Lane
) -> None:
    rings = Rings([gearmand.server])
    wait_for(lambda: lane.heard == [None], "the lane looked once by itself")
    lane.busy.clear()
    rings.ring_all([Ring(n, "ProcPics x", 0) for n in (1, 2, 3)])
    wait_for(lambda: 1 in lane.heard, "the first ring was heard")
    (server,) = depth.look([gearmand.server])
    assert server.version
    assert server.depths == (depth.Depth("ProcPics x", 2, 1, 1),)
    assert [(one.name, one.ae_titles) for one in server.listeners] == [("lane-1", ("ProcPics x",))]
    lane.busy.set()
    wait_for(lambda: lane.heard == [None, 1, 2, 3], "all rings were heard, in order")
    wait_for(
        lambda: depth.look([gearmand.server])[0].depths == (depth.Depth("ProcPics x", 0, 0, 1),),
        "nothing waits",
    )
    rings.close()


def test_a_second_ring_for_a_waiting_job_is_no_second_one(gearmand: Gearmand) -> None:
    rings = Rings([gearmand.server])
    rings.ring_all([Ring(7, "X", 0), Ring(7, "X", 0), Ring(8, "X", 0)])
    rings.ring(7, "X", 0)
    assert depth.look([gearmand.server])[0].depths == (depth.Depth("X", 2, 0, 0),)
    rings.close()


def test_two_thousand_rings_at_once_are_all_there(gearmand: Gearmand) -> None:
    rings = Rings([gearmand.server])
    rings.ring_all([Ring(n, "X", 0) for n in range(1, 2001)])
    assert depth.look([gearmand.server])[0].depths[0].queued == 2000
    rings.close()


def test_at_26_a_payload_that_is_no_job_id_is_not_passed_on(gearmand: Gearmand, lane: Lane) -> None:
    with socket.create_connection(("127.0.0.1", gearmand.port)) as peer:
        for payload in (b"../../etc", b"-4", b"9" * 40, b"", b"\xff\x00", b"1e3"):
            body = b"\0".join((function_of("ProcPics x"), payload[:1].hex().encode(), payload))
            head = b"\0REQ" + (18).to_bytes(4, "big") + len(body).to_bytes(4, "big")
            peer.sendall(head + body)
        Rings([gearmand.server]).ring(5, "ProcPics x", 0)
        wait_for(lambda: 5 in lane.heard, "the good ring was heard")
    wait_for(
        lambda: depth.look([gearmand.server])[0].depths[0].queued == 0, "the bad ones were taken"
    )
    assert lane.heard == [None, 5]


def test_a_killed_gearmand_is_found_again_and_the_lane_looks_by_itself(
    gearmand: Gearmand, lane: Lane
) -> None:
    rings = Rings([gearmand.server], patience_seconds=2)
    rings.ring(1, "ProcPics x", 0)
    wait_for(lambda: 1 in lane.heard, "the ring was heard")
    looks = lane.heard.count(None)
    gearmand.kill()
    with pytest.raises(QueueUnavailable) as caught:
        rings.ring(2, "ProcPics x", 0)
    assert gearmand.server in str(caught.value)
    gearmand.start()
    wait_for(lambda: lane.heard.count(None) == looks + 1, "the lane looked after the outage", 10)
    rings.ring(3, "ProcPics x", 0)
    wait_for(lambda: 3 in lane.heard, "the ring was heard")
    rings.close()


def test_gearmand_killed_under_a_working_callback_leaves_the_lane_well(
    gearmand: Gearmand, lane: Lane
) -> None:
    rings = Rings([gearmand.server], patience_seconds=2)
    lane.busy.clear()
    wait_for(lambda: lane.heard == [None], "the lane looked once by itself")
    lane.busy.set()
    rings.ring(1, "ProcPics x", 0)
    lane.busy.clear()
    wait_for(lambda: 1 in lane.heard, "the ring was heard")
    gearmand.kill()
    gearmand.start()
    lane.busy.set()
    wait_for(lambda: lane.heard.count(None) == 2, "the lane looked after the outage", 10)
    rings.ring(2, "ProcPics x", 0)
    wait_for(lambda: 2 in lane.heard, "the ring was heard")
    rings.close()


def test_a_lane_looks_by_itself_while_gearmand_is_away() -> None:
    lane = Lane(f"127.0.0.1:{free_port()}", "X", look_again_seconds=0.3)
    wait_for(lambda: lane.heard.count(None) >= 3, "the lane looked three times", 10)
    assert lane.stop() < 10


def test_ft_17_a_gearmand_that_hangs_costs_no_more_than_the_patience(gearmand: Gearmand) -> None:
    rings = Rings([gearmand.server], patience_seconds=0.5)
    rings.ring(1, "X", 0)
    os.kill(gearmand.pid, signal.SIGSTOP)
    stopped = psutil.Process(gearmand.pid)
    wait_for(lambda: stopped.status() == psutil.STATUS_STOPPED, "gearmand stands still")
    began = time.monotonic()
    with pytest.raises(QueueUnavailable):
        rings.ring(2, "X", 0)
    assert time.monotonic() - began < 20
    os.kill(gearmand.pid, signal.SIGCONT)
    rings.ring(2, "X", 0)
    rings.close()


def test_a_lane_stops_within_two_seconds(gearmand: Gearmand) -> None:
    lane = Lane(gearmand.server, "X")
    wait_for(lambda: lane.heard == [None], "the lane looked once by itself")
    assert lane.stop() < 10
    assert depth.look([gearmand.server])[0].listeners == ()


def test_depth_of_a_gearmand_that_is_not_there_says_so() -> None:
    with pytest.raises(QueueUnavailable):
        depth.look([f"127.0.0.1:{free_port()}"])
