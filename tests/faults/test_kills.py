"""kill -9 of every process while studies flow: nothing acknowledged is lost or done twice."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

from appliance.dicom import part10
from tests.faults.checker import Acknowledged
from tests.faults.flow import Town
from tests.kit import dicom, peers
from tests.kit.raw_scu import RawSCU
from tests.kit.scripts import QUICK
from tests.kit.waiting import wait_for


def back(town: Town, name: str, dead: set[int]) -> None:
    """Wait until another process of this program runs."""
    wait_for(
        lambda: any(one.pid not in dead for one in town.node.processes(name)),
        f"{name} runs again",
    )


def kill(town: Town, name: str) -> None:
    """Kill every process of a program and wait until it is there again."""
    dead = {one.pid for one in town.node.processes(name)}
    town.node.kill(name)
    back(town, name, dead)


@pytest.mark.parametrize("name", ["dispatcher", "worker", "router", "web", "receiver", "gearmand"])
def test_a_kill_while_studies_flow_loses_and_doubles_nothing(town: Town, name: str) -> None:
    flow = town.flow()
    wait_for(lambda: flow.studies > 1, "studies flow")
    kill(town, name)
    seen = flow.studies
    wait_for(lambda: flow.studies > seen + 1, "studies flow again")
    assert town.settle(flow) == []
    assert town.results_for_every_study()


def test_ft_15_gearmand_killed_with_jobs_waiting_and_one_running(town: Town) -> None:
    gate = town.held_stream("HELD")
    flow = town.flow("HELD")
    wait_for(
        lambda: len([j for j in town.node.jobs("HELD") if j.state == "queued"]) >= 2, "two wait"
    )
    kill(town, "gearmand")
    gate.touch()
    assert town.settle(flow) == []
    assert town.results_for_every_study()


def test_ft_11_a_worker_killed_with_a_job_running_runs_it_again_once(town: Town) -> None:
    gate = town.held_stream("HELD2")
    flow = town.flow("HELD2")
    wait_for(lambda: [j for j in town.node.jobs("HELD2") if j.state == "running"], "one runs")
    flow.stop()
    [running] = [job for job in town.node.jobs("HELD2") if job.state == "running"]
    kill(town, "worker")
    wait_for(lambda: town.node.job(running.id).attempt == 2, "the second attempt")
    gate.touch()
    assert town.settle(flow) == []
    assert town.node.job(running.id).state == "succeeded"
    assert town.results_for_every_study()


def test_ft_02_a_receiver_killed_in_mid_data_set_keeps_nothing_of_it(town: Town) -> None:
    [file] = dicom.write_study(dicom.ct_study(1, size=1024), town.folder / "cut")
    gone = threading.Event()

    sender = AE("CT1")
    sender.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    assoc = sender.associate(
        "127.0.0.1",
        town.node.port,
        ae_title="QUICK",
        max_pdu=16384,
        evt_handlers=[(evt.EVT_DATA_SENT, lambda event: _kill_once(town, event, gone))],
    )
    with pytest.raises(RuntimeError):
        # pynetdicom raises when the association ends before the answer.
        status = assoc.send_c_store(file)
        if "Status" not in status:
            raise RuntimeError("no answer")
    assert gone.is_set()
    back(town, "receiver", set())
    wait_for(lambda: peers.echoscu(town.node.port, "QUICK"), "the receiver answers")
    wait_for(lambda: not list(town.node.layout.incoming.rglob("*.part")), "no part is left")
    assert town.settle() == []


def _kill_once(town: Town, event: evt.Event, gone: threading.Event) -> None:
    # The first PDUs are the request and the command; the data set follows.
    if len(event.data) > 4096 and not gone.is_set():
        gone.set()
        town.node.kill("receiver")


def test_a_study_sent_again_to_a_second_stream_outlives_a_kill_after_each_answer(
    town: Town,
) -> None:
    """What it has already is received for the second stream once that was answered."""
    town.node.add_stream("SECOND", QUICK, quiet_seconds=0.5)
    town.node.wait_for_stream("SECOND")
    files = dicom.write_study(dicom.ct_study(4), town.folder / "again")
    assert town.node.send(files, "QUICK").acknowledged == files
    for file in files:
        _store_and_kill(town, file, "SECOND")
    town.told += [Acknowledged(file, called) for called in ("QUICK", "SECOND") for file in files]
    assert town.settle() == []
    [last] = [job for job in town.node.jobs("SECOND") if job.superseded_by is None]
    assert (last.state, last.input_count) == ("succeeded", len(files))
    assert town.results_for_every_study()


def _store_and_kill(town: Town, file: Path, called: str) -> None:
    """Have a file acknowledged, and kill who did so at that moment, before its row is written."""
    meta, start = part10.read_meta(file)
    data_set = file.read_bytes()[start:]
    contexts = {(1, meta.sop_class_uid): [meta.transfer_syntax_uid]}
    with RawSCU(town.node.port, contexts, called=called) as scu:
        running = town.node.processes("receiver")
        pids = {one.pid for one in running}
        children = [one.pid for one in running if one.ppid() in pids]
        status = scu.store(data_set, meta.sop_class_uid, meta.sop_instance_uid)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        assert status == 0x0000
        with suppress(ConnectionError):
            assert scu.receive() == (0, b""), "the association is cut off"
    # One that dies may still accept the next connection, which ends with it.
    wait_for(
        lambda: not {one.pid for one in town.node.processes("receiver")} & set(children),
        "those that were killed are gone",
    )


def test_ft_20_a_router_killed_in_the_middle_of_a_c_store_delivers_it_once(town: Town) -> None:
    town.pacs.stop()
    town.pacs.start("--sleep-during", "2")
    flow = town.flow()
    wait_for(lambda: town.node.deliveries("sending"), "a delivery is being sent")
    kill(town, "router")
    flow.stop()
    town.pacs.stop()
    town.pacs.start()
    assert town.settle(flow) == []
    assert town.results_for_every_study()


def test_ft_18_supervisord_killed_comes_back_with_all_it_runs(town: Town) -> None:
    flow = town.flow()
    wait_for(lambda: flow.studies > 1, "studies flow")
    before = {one.pid for one in town.node.processes("supervisord")}
    for pid in before:
        psutil.Process(pid).kill()
    wait_for(
        lambda: {one.pid for one in town.node.processes("supervisord")} - before,
        "supervisord runs again",
        40,
    )
    wait_for(town.node.is_ready, "the node is ready again", 60)
    seen = flow.studies
    wait_for(lambda: flow.studies > seen + 1, "studies flow again", 60)
    assert town.settle(flow) == []
    assert town.results_for_every_study()
