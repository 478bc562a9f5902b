"""FT-27: the index is locked, gone, full or may only be read; nothing acknowledged is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from tests.faults.flow import Town
from tests.kit.dicom import ct_study, write_study
from tests.kit.postgres import Server
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import associate, rejection

OUT_OF_RESOURCES = 0xA700


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server().start()
    yield one
    one.remove()


@pytest.fixture
def on_postgres(tmp_path: Path, server: Server) -> Iterator[Receiver]:
    """A receiver whose index is on a server that the test breaks."""
    index = {"url": server.url, "busy_seconds": 1}
    one = Receiver(tmp_path / "node", {"index": index, "receiver": {"processes": 1}})
    one.prelude = (
        "from appliance.intake import writer\nfrom appliance.receiver import load\n"
        "writer._LONGEST_BEHIND_SECONDS = load._MOST_SECONDS_BEHIND = 2.0\n"
    )
    yield one.start()
    one.db.close()
    if one.is_alive():
        one.kill()
    assert "Traceback" not in one.text(), one.text()[-3000:]


@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=pytest.mark.long)])
def test_ft_27_a_lock_that_passes_is_waited_for(
    receiver: Receiver, tmp_path: Path, seconds: float
) -> None:
    receiver.settings = {"index": {"busy_seconds": seconds * 4}}
    receiver.write_settings()
    receiver.start()
    [ds] = [pydicom.dcmread(file) for file in write_study(ct_study(1), tmp_path)]
    assoc = associate(receiver)
    assoc.dimse_timeout = seconds * 4  # the sender waits longer than the lock is held
    is_held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with receiver.db.write():
            is_held.set()
            done.wait(seconds)

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_held.wait(30)
    answer: list[int] = []
    sender = threading.Thread(target=lambda: answer.append(assoc.send_c_store(ds).Status))
    sender.start()
    holder.join(seconds + 60)
    sender.join(seconds * 4 + 60)
    assert answer == [0x0000]
    assoc.release()
    assert receiver.instance(ds.SOPInstanceUID) is not None


def break_and_mend(server: Server, how: str) -> Callable[[], None]:
    """Break the server; what mends it."""
    if how in ("killed", "stopped"):
        server.stop(signal.SIGKILL if how == "killed" else signal.SIGINT)
        return lambda: bool(server.start()) and None
    if how == "full":
        server.stop()
        server.start(max_connections=8)
        taken = sa.create_engine(server.url, pool_size=8, isolation_level="AUTOCOMMIT")
        held: list[sa.Connection] = []
        wait_for(lambda: _takes_all(taken, held, 8), "the server is full")
        return lambda: _give_back(taken, held)
    _say(server, "ALTER DATABASE postgres SET default_transaction_read_only = on")
    return lambda: _say(
        server,
        "SET default_transaction_read_only = off",
        "ALTER DATABASE postgres SET default_transaction_read_only = off",
    )


def _takes_all(engine: sa.Engine, held: list[sa.Connection], places: int) -> bool:
    """Take every place; who else has one, such as the node that is quick, loses it."""
    try:
        while len(held) < places:
            held.append(engine.connect())
    except sa.exc.OperationalError:
        if held:
            mine = [one.exec_driver_sql("SELECT pg_backend_pid()").scalar() for one in held]
            held[0].exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = 'postgres' AND pid NOT IN ({', '.join(map(str, mine))})"
            )
    return len(held) == places


def _give_back(engine: sa.Engine, held: list[sa.Connection]) -> None:
    for one in held:
        one.close()
    engine.dispose()


def _say(server: Server, *statements: str) -> None:
    """Say it, and end every other connection, so that it is in force."""
    engine = sa.create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = 'postgres'"
        )
    engine.dispose()


@pytest.mark.parametrize("how", ["killed", "stopped", "full", "read-only"])
def test_ft_27_a_server_that_cannot_be_written_to_refuses_for_now_and_recovers(
    on_postgres: Receiver, server: Server, tmp_path: Path, how: str
) -> None:
    study = [pydicom.dcmread(file) for file in write_study(ct_study(3), tmp_path)]
    assoc = associate(on_postgres)
    assert assoc.send_c_store(study[0]).Status == 0x0000
    mend = break_and_mend(server, how)
    assert assoc.send_c_store(study[1]).Status == 0x0000, "it is durable, its row follows"
    wait_for(
        lambda: assoc.send_c_store(study[2]).Status == OUT_OF_RESOURCES, "it is away too long"
    )
    wait_for(lambda: rejection(on_postgres, "ECHO") == (2, 3, 1), "nobody else is let in")
    assert assoc.is_established, "the association outlives it"
    mend()
    wait_for(lambda: assoc.send_c_store(study[2]).Status == 0x0000, "it is kept again")
    assoc.release()
    wait_for(lambda: rejection(on_postgres, "ECHO") == (0, 0, 0), "it accepts again")
    wait_for(lambda: len(on_postgres.instances()) == 3, "what was answered has its rows")
    # What was written as the index went away is adopted: it is there already, so it goes.
    on_postgres.kill()
    on_postgres.start()
    wait_for(lambda: not on_postgres.waiting(), "nothing is left in incoming/")
    assert len(on_postgres.stored()) == 3
    assert len(on_postgres.instances()) == 3


def test_ft_27_postgresql_killed_and_started_again_while_studies_flow(
    server: Server, tmp_path: Path
) -> None:
    town = Town(tmp_path)
    town.node.settings["index"] = {"url": server.url, "busy_seconds": 5}
    town.start()
    try:
        flow = town.flow()
        wait_for(lambda: flow.studies > 1, "studies flow")
        server.stop(signal.SIGKILL)
        refused = flow.refused
        wait_for(lambda: flow.refused > refused, "a sender is refused", 60)
        town.node.db.close()  # the test's own connections went with the server
        server.start()
        seen = flow.studies
        wait_for(lambda: flow.studies > seen + 1, "studies flow again", 90)
        assert town.settle(flow) == []
        assert town.results_for_every_study()
    finally:
        town.stop()
