"""AT-25, AT-26: who reaches gearmand can ring and silence rings, and nothing else."""

from __future__ import annotations

import ast
import socket
from pathlib import Path

import pytest

from appliance.index import events
from appliance.queue.functions import function_of
from tests.kit.alone import CHECKOUT
from tests.kit.bench import Bench
from tests.kit.dicom import ct_study
from tests.kit.gearmand import Gearmand
from tests.kit.scripts import COPY_ONE, HELD, QUICK
from tests.kit.waiting import wait_for

_CAN_DO, _SUBMIT_BACKGROUND = 1, 18
_GRAB, _NO_JOB, _JOB_ASSIGN = 9, 10, 11


class Stranger:
    """A user of this machine who speaks gearmand's two protocols."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._peer = socket.create_connection(("127.0.0.1", port), 10)

    def close(self) -> None:
        self._peer.close()

    def send(self, kind: int, *parts: bytes) -> None:
        body = b"\0".join(parts)
        self._peer.sendall(b"\0REQ" + kind.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body)

    def ring(self, ae_title: str, payload: bytes, unique: bytes = b"") -> None:
        """Submit a background job, as the dispatcher does, and wait until it was taken."""
        self.send(_SUBMIT_BACKGROUND, function_of(ae_title), unique, payload)
        self.answer()

    def answer(self) -> tuple[int, bytes]:
        head = self._read(12)
        return int.from_bytes(head[4:8], "big"), self._read(int.from_bytes(head[8:], "big"))

    def command(self, line: str) -> str:
        """Say a line of the administration protocol."""
        with socket.create_connection(("127.0.0.1", self._port), 10) as peer:
            peer.sendall(line.encode() + b"\r\n")
            return peer.recv(4096).decode()

    def _read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            more = self._peer.recv(count - len(found))
            assert more, "gearmand hung up"
            found += more
        return found


def told(bench: Bench) -> list[events.Event]:
    with bench.db.read() as connection:
        return events.latest(connection, 100, kind="rings that nobody made")


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"-4", b"1e3", b"../../etc/passwd", b"$(id)", b"9" * 40, b"\xff\x00", b"{}",
        b"\x80\x04\x95\x1b\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
        b"424242", b"0", b" 1",
    ],
)  # fmt: skip
def test_at_26_a_payload_is_a_bare_number_or_nothing(payload: bytes) -> None:
    from appliance.queue.listen import _job_id

    expected = 424242 if payload == b"424242" else None
    assert _job_id(payload) == expected


def test_at_26_nothing_is_read_that_can_run_code() -> None:
    """No pickle and its kin; pygearman's own encoder of objects stays what it is: bytes."""
    forbidden = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib"}
    used = {
        f"{path.relative_to(CHECKOUT)}: {name}"
        for folder in ("appliance", "web", "streams")
        for path in (CHECKOUT / folder).rglob("*.py")
        for name in imported(path)
        if name.split(".")[0] in forbidden
    }
    assert used == set()
    from gearman.connection_manager import NoopEncoder

    from appliance.queue import depth, listen, rings

    for client in (rings._Client, listen._Worker, depth._Admin):
        assert client.data_encoder is NoopEncoder, "what arrives would be decoded"


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_at_25_rings_that_nobody_made_do_nothing_and_are_told_once(
    bench: Bench, gearmand: Gearmand
) -> None:
    bench.stream("ECHO", QUICK)
    bench.start("dispatcher")
    bench.start("worker")
    stranger = Stranger(gearmand.port)
    bench.send_study(ct_study(1), "ECHO")
    [job] = bench.wait_for_jobs(1)
    for number in range(50):
        stranger.ring("ECHO", b"junk %d" % number)
        stranger.ring("ECHO", b"%d" % (1_000_000 + number))
    wait_for(lambda: told(bench), "it is told")
    bench.send_study(ct_study(1), "ECHO")
    assert len(bench.wait_for_jobs(2, "succeeded")) == 2
    assert [one.attempt for one in bench.jobs()] == [1, 1], "nothing ran twice"
    wait_for(lambda: "ECHO\t0\t0" in stranger.command("status"), "all rings were taken")
    assert len(told(bench)) == 1, "one event, not one for each"
    assert bench.log("worker").count("rings that nobody made") == 1
    assert job.id in {one.id for one in bench.jobs()}
    stranger.close()


def test_at_25_a_ring_that_was_taken_away_is_made_again(bench: Bench, gearmand: Gearmand) -> None:
    gate = bench.stream("ECHO", HELD) / "gate"
    bench.start("dispatcher")
    bench.start("worker")
    stranger = Stranger(gearmand.port)
    bench.send_study(ct_study(1), "ECHO")
    bench.wait_for_jobs(1, "running")
    for _ in range(3):
        bench.send_study(ct_study(1), "ECHO")
    waiting = bench.wait_for_jobs(3, "queued")
    # The keys of rings to come are taken with other payloads, waiting rings are cancelled,
    # the function is dropped, and a worker that does nothing takes what is left.
    for job in waiting:
        stranger.ring("ECHO", b"junk", unique=b"%d" % job.id)
    for line in stranger.command("show jobs").splitlines():
        if line.startswith("H:"):
            stranger.command(f"cancel job {line.split()[0]}")
    stranger.command(f"drop function {function_of('ECHO').decode()}")
    stranger.send(_CAN_DO, function_of("ECHO"))
    for _ in range(5):
        stranger.send(_GRAB)
        assert stranger.answer()[0] in (_NO_JOB, _JOB_ASSIGN)
    gate.touch()
    assert len(bench.wait_for_jobs(4, "succeeded", seconds=60)) == 4
    assert [one.attempt for one in bench.jobs()] == [1] * 4
    stranger.close()


def test_at_25_gearmand_told_to_stop_by_a_stranger_loses_nothing(
    bench: Bench, gearmand: Gearmand
) -> None:
    bench.stream("ECHO", COPY_ONE + "make()\n")
    bench.start("dispatcher")
    bench.start("worker")
    stranger = Stranger(gearmand.port)
    stranger.command("shutdown")
    stranger.close()
    bench.send_study(ct_study(1), "ECHO")
    # The worker may also have looked by itself, and be done.
    wait_for(bench.jobs, "the study is a job, though no bell is there")
    gearmand.kill()
    gearmand.start()
    bench.wait_for_jobs(1, "succeeded", seconds=60)
