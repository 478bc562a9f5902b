"""Signals to the node and to its supervisord, FT-18; tests/faults has its kill -9."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pydicom
import pytest
import yaml
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from tests.faults.checker import Acknowledged
from tests.faults.flow import Town
from tests.kit import dicom
from tests.kit.waiting import is_listening, wait_for


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("town"))
    town.start()
    yield town
    town.stop()


def pids(town: Town) -> set[int]:
    """Give every process below `brookbox up` but the runs of streams, which come and go."""
    names = ("supervisord", "receiver", "dispatcher", "worker", "router", "web", "gearmand")
    return {one.pid for name in names for one in town.node.processes(name)}


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=["sighup", "sigterm"])
def test_ft_18_a_signal_to_supervisord_while_studies_flow(
    town: Town, number: signal.Signals
) -> None:
    """SIGHUP has supervisord start its programs again, SIGTERM ends it: the node starts it."""
    flow = town.flow()
    wait_for(lambda: flow.studies > 1, "studies flow")
    [supervisord] = town.node.processes("supervisord")
    before = pids(town) - ({supervisord.pid} if number == signal.SIGHUP else set())
    supervisord.send_signal(number)
    wait_for(lambda: not before & pids(town), "every program was stopped", 60)
    wait_for(town.node.is_ready, "the node is ready again", 60)
    seen = flow.studies
    wait_for(lambda: flow.studies > seen + 1, "studies flow again", 60)
    assert town.settle(flow) == []
    assert town.results_for_every_study()


def test_ft_18_sighup_of_the_node_reads_its_settings_and_stops_nothing(town: Town) -> None:
    file = town.node.home / "config" / "brookbox.yaml"
    values = yaml.safe_load(file.read_text())
    values["receiver"]["max_associations"] = 7
    file.write_text(yaml.safe_dump(values))
    log, before = town.node.layout.logs / "receiver.log", pids(town)
    assert town.node.process is not None
    town.node.process.send_signal(signal.SIGHUP)
    wait_for(lambda: '"changed": ["receiver.max_associations"]' in log.read_text(), "read again")
    assert pids(town) == before
    flow = town.flow()
    wait_for(lambda: flow.studies > 1, "studies flow")
    assert town.settle(flow) == []


def test_ft_18_sigterm_of_the_node_lets_an_association_end_and_keeps_what_it_brought(
    town: Town,
) -> None:
    first, second = dicom.write_study(dicom.ct_study(2), town.folder / "last")
    sender = AE("CT1")
    sender.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    assoc = sender.associate("127.0.0.1", town.node.port, ae_title="QUICK")
    assert assoc.send_c_store(pydicom.dcmread(first)).Status == 0x0000
    jobs = len(town.node.jobs())
    process = town.node.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: not is_listening(town.node.port), "nobody is accepted any more")
    assert assoc.send_c_store(pydicom.dcmread(second)).Status == 0x0000
    assoc.release()
    town.told += [Acknowledged(one, "QUICK") for one in (first, second)]
    assert process.wait(60) == 0
    town.node.stop()
    assert len(town.node.jobs()) == jobs
    town.node.start()
    [job] = town.node.wait_for_jobs(jobs + 1, "succeeded")[jobs:]
    assert (job.input_count, job.incomplete) == (2, False)
    assert town.settle() == []
