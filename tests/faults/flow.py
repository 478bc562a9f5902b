"""Studies that flow through a node while something is killed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.index import job_list
from tests.faults.checker import Acknowledged, Evidence, check
from tests.faults.measures import Outside, Usage, usage
from tests.kit import dicom
from tests.kit.node import Node
from tests.kit.peers import Pacs
from tests.kit.scripts import HELD, QUICK
from tests.kit.waiting import rows_follow, wait_for

_OPEN = job_list.Filter(states=("queued", "running"))


@dataclass
class Flow:
    """A sender that sends studies one after another, and sends again what was not acknowledged."""

    node: Node
    folder: Path
    called: str
    calling: str = "CT1"
    most_waiting: int = 0  # jobs; with more it waits before the next study.  0 is without end
    slices: int = 3
    acknowledged: list[Acknowledged] = field(default_factory=list)
    studies: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Flow:
        """Begin to send."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the study that is being sent, and stop."""
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "the sender never got its study through"

    def _run(self) -> None:
        while not self._stop.is_set():
            if self.most_waiting and self._waiting() >= self.most_waiting:
                self._stop.wait(0.2)
                continue
            self.studies += 1
            study = dicom.ct_study(self.slices, size=256)
            left = dicom.write_study(study, self.folder / f"{self.called}-{self.studies}")
            while left:
                report = self.node.send(left, self.called, self.calling)
                got = set(report.acknowledged)
                self.acknowledged += [
                    Acknowledged(file, self.called) for file in left if file in got
                ]
                self.refused += len(left) - len(got)
                left = [file for file in left if file not in got]
                if left:
                    time.sleep(0.3)  # a sender's own pause before it tries again

    def _waiting(self) -> int:
        with self.node.db.read() as connection:
            return len(job_list.jobs_matching(connection, _OPEN, 100))


class Town:
    """A node, the PACS that its results go to, and what senders were told so far."""

    def __init__(self, folder: Path, docker: str = "never", **worker: Any) -> None:
        self.folder = folder
        self.node = Node(folder / "node", {"worker": {"docker": docker, **worker}}, ())
        self.pacs = Pacs(folder / "pacs")
        self.told: list[Acknowledged] = []
        self._flows = 0
        self._before: dict[str, Usage] | None = None
        own = self.node.give_own_home(folder / "own")
        self._outside = Outside.look(*own)

    def start(self) -> None:
        """Start both; the stream QUICK is served, and what the node holds in peace is measured."""
        self.pacs.start()
        self.node.start()
        self.node.add_stream("QUICK", QUICK, quiet_seconds=0.5)
        self.node.route_all_to(self.pacs)
        self.node.wait_for_stream("QUICK")
        # What a process needs at all it has loaded once a study has gone through.
        flow = self.flow()
        wait_for(lambda: flow.studies > 2, "studies flow")
        found = self.settle(flow)
        assert not found, f"{found}\n{self.node.story()}"
        self._before = usage(self.node.family())

    def stop(self) -> None:
        """Stop both."""
        self.node.stop()
        self.pacs.stop()

    def flow(self, called: str = "QUICK") -> Flow:
        """Begin a flow of studies."""
        self._flows += 1
        return Flow(self.node, self.folder / f"sent-{self._flows}", called).start()

    def held_stream(self, ae_title: str) -> Path:
        """Add a stream whose jobs run until the gate, the file given, is there."""
        folder = self.node.add_stream(ae_title, HELD, quiet_seconds=0.5)
        self.node.wait_for_stream(ae_title)
        return folder / "gate"

    def settle(self, *flows: Flow, seconds: float = 90) -> list[str]:
        """Stop the flows, wait until all work is done, and give the checker's findings."""
        for one in flows:
            one.stop()
            self.told += one.acknowledged
        try:
            wait_for(self._is_done, "every job and delivery has ended", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.node.story()}") from None
        evidence = Evidence(
            self.node.layout.root, self.node.db, self.told, self.pacs_folders(), [self.node.out],
            outside_before=self._outside,
            processes_before=self._before, processes=self.node.family(),
        )  # fmt: skip
        return check(evidence)

    def pacs_folders(self) -> list[Path]:
        """List the folders in which a PACS holds each instance once."""
        return [self.pacs.folder]

    def results_for_every_study(self) -> bool:
        """Say whether every job that was not superseded has its result at the PACS."""
        done = [job for job in self.node.jobs() if job.state == "succeeded"]
        wanted = [job for job in done if job.superseded_by is None]
        delivered = {one.job_id for one in self.node.deliveries("delivered")}
        held = len(self.pacs.files())
        return {job.id for job in wanted} <= delivered and held == len(delivered)

    def _is_done(self) -> bool:
        if rows_follow(self.node.layout.incoming) or self.node.open_arrivals():
            return False
        if any(job.state in ("queued", "running") for job in self.node.jobs()):
            return False
        ended = [job for job in self.node.jobs() if job.state in ("succeeded", "partial", "failed")]
        if any(job.is_held for job in ended):
            for job in ended:
                if job.is_held:
                    self.node.cli("jobs", "release", str(job.id))
            return False
        if any(job.routed_at is None for job in ended):
            return False
        return not self.node.deliveries("due", "sending")
