"""Many connections: who is told what, who gives way, and that counts hold over processes."""

from __future__ import annotations

import os
import signal
import socket
import struct
from contextlib import ExitStack, closing
from pathlib import Path

from tests.kit import peers
from tests.kit.dicom import ct_study, write_study
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import associate, ct_slice_with_meta, raw_request, rejection


def connected(receiver: Receiver, source: str = "127.0.0.1") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", receiver.port), 20, (source, 0))
    one.settimeout(20)
    return one


def test_at_02_an_address_has_so_many_connections_and_the_next_is_told_why(
    receiver: Receiver,
) -> None:
    receiver.settings = {
        "receiver": {"max_connections_per_address": 3, "header_timeout_seconds": 100}
    }
    receiver.write_settings()
    receiver.start()
    held = [associate(receiver, calling=f"CT{number}") for number in range(3)]
    assert rejection(receiver, "ECHO") == (2, 3, 2)
    sentence = receiver.events("association refused")[0].sentence
    assert "receiver.max_connections_per_address" in sentence
    with closing(connected(receiver, "127.0.0.7")) as other:
        other.sendall(raw_request(b"ECHO", b"CT9"))
        assert other.recv(1) == b"\2", "other addresses do not notice"
    for assoc in held:
        assert assoc.is_established
        assoc.release()
    wait_for(lambda: rejection(receiver, "ECHO") == (0, 0, 0), "there is room again")


def test_at_02_silent_connections_of_an_address_do_not_keep_its_sender_out(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.settings = {
        "receiver": {
            "processes": 1, "max_connections_per_address": 3, "header_timeout_seconds": 100
        }
    }  # fmt: skip
    receiver.write_settings()
    receiver.start()
    files = write_study(ct_study(2), tmp_path)
    with ExitStack() as stack:
        silent = [stack.enter_context(closing(connected(receiver))) for _ in range(3)]
        wait_for(
            lambda: len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == 2,
            "one that asks for nothing has given way",
            10,
        )
        silent[0].settimeout(10)
        assert silent[0].recv(1) == b"", "the oldest one"
        assert peers.echoscu(receiver.port, "ECHO")


def test_behind_nat_no_address_has_a_limit(receiver: Receiver) -> None:
    receiver.settings = {"receiver": {"max_connections_per_address": 2, "behind_nat": True}}
    receiver.write_settings()
    receiver.start()
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(closing(connected(receiver)))
        assert peers.echoscu(receiver.port, "ECHO")


def test_who_only_holds_an_association_open_keeps_nobody_out(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.settings = {"receiver": {"max_associations": 2, "processes": 1}}
    receiver.write_settings()
    receiver.start()
    useful = associate(receiver, calling="CT1")
    assert useful.send_c_store(ct_slice_with_meta()).Status == 0x0000
    idle = associate(receiver, calling="CT2")
    files = write_study(ct_study(2), tmp_path)
    wait_for(
        lambda: len(peers.storescu(files, receiver.port, "ECHO", "CT3").acknowledged) == 2,
        "the idle one has given way",
    )
    wait_for(lambda: not idle.is_established, "it was aborted")
    assert useful.is_established
    assert useful.send_c_store(ct_slice_with_meta()).Status == 0x0000
    useful.release()


def test_what_a_killed_process_held_is_given_back(receiver: Receiver) -> None:
    receiver.settings = {"receiver": {"max_associations": 2, "max_connections_per_address": 5}}
    receiver.write_settings()
    receiver.start()
    held = [associate(receiver, calling=calling) for calling in ("CT1", "CT2")]
    for assoc in held:
        assert assoc.send_c_store(ct_slice_with_meta()).Status == 0x0000
    assert rejection(receiver, "ECHO") == (2, 3, 2)
    before = {child.pid for child in receiver.children()}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len({c.pid for c in receiver.children()} - before) == 2, "two new ones")
    wait_for(lambda: rejection(receiver, "ECHO") == (0, 0, 0), "their places are free")
    for assoc in held:
        assoc.abort(block=False)


def test_a_request_too_long_to_peek_is_pynetdicoms(receiver: Receiver, tmp_path: Path) -> None:
    """Between 96 and 128 KiB, in many small segments; above it is cut off."""
    receiver.start()
    asked = raw_request(b"ECHO", b"CT1")
    for padding, answer in ((100_000, b"\2"), (140_000, b"\7")):
        # Further user information: items that no acceptor knows, and that it must ignore.
        items = b"".join(
            struct.pack(">BBH", 0x5F, 0, 10_000) + bytes(10_000) for _ in range(padding // 10_000)
        )
        user = asked.index(b"\x50\0", 74)
        [length] = struct.unpack_from(">H", asked, user + 2)
        more = [items[at : at + 60_024] for at in range(0, len(items), 60_024)]
        whole = asked[:user] + b"".join(
            struct.pack(">BBH", 0x5F, 0, len(one)) + one for one in more
        ) + asked[user : user + 4 + length]  # fmt: skip
        whole = whole[:2] + struct.pack(">I", len(whole) - 6) + whole[6:]
        with closing(connected(receiver)) as one:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(whole), 1000):
                try:
                    one.sendall(whole[at : at + 1000])
                except OSError:
                    break
            said = one.recv(1)
        assert said in (answer, b"\7"), padding
    assert peers.echoscu(receiver.port, "ECHO")
