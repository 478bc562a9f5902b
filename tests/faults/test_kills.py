"""kill -9 of every process while studies flow: nothing acknowledged is lost or done twice."""

from __future__ import annotations

import threading

import psutil
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

from tests.faults.flow import Town
from tests.kit import dicom, peers
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
