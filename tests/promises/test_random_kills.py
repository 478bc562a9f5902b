"""Random kills of every process while studies flow: nothing lost, doubled or stuck (Show 2).

`BROOKBOX_KILL_SEED` repeats the dice of a run that failed; the moments are still the machine's.
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from appliance.index import catalog
from tests.faults.flow import Flow, Town
from tests.kit.flaky import Came, FlakyPacs
from tests.kit.peers import Pacs
from tests.kit.scripts import COPY_ONE, SLEEP
from tests.promises.killer import Killer

MANY = (
    COPY_ONE
    + """
for number in range(4):
    ds = pydicom.dcmread(files[0])
    ds.SeriesInstanceUID, ds.SOPInstanceUID = uid("series"), uid(f"number {number}")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.SeriesNumber, ds.InstanceNumber = "9001", str(number)
    ds.save_as(pathlib.Path(os.environ["BROOKBOX_OUTPUT"]) / f"{number}.dcm")
"""
)
# What a router was answered it tells the index within a second, and when the index lets it.
_TOLD_SECONDS = 10.0


class Crossroads(Town):
    """Three streams, three senders, a steady PACS and a flaky one."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        super().__init__(folder)
        # The killer would use the attempts of a job up; and nobody is there to release.
        self.node.settings["jobs"] = {"max_attempts": 100, "hold_incomplete": False}
        self.pacs = Pacs(folder / "pacs", options=("+uf",))  # a file each time it comes
        self.flaky = FlakyPacs(folder / "flaky", random.Random(dice.random()))

    def start(self) -> None:
        self.flaky.start()
        super().start()

    def stop(self) -> None:
        super().stop()
        self.flaky.stop()

    def add_streams(self) -> None:
        """Add the other two streams, and route everything to both destinations."""
        self.node.add_stream("SLOW", SLEEP, quiet_seconds=0.5, settings={"seconds": 0.5})
        self.node.add_stream("MANY", MANY, quiet_seconds=0.5)
        self.jobs_before = len(self.node.jobs())  # which went to one PACS only
        peers = {"steady": self.pacs, "flaky": self.flaky}
        self.node.route(
            {
                "destinations": {
                    name: {"ae_title": one.ae_title, "host": "127.0.0.1", "port": one.port}
                    for name, one in peers.items()
                },
                "rules": [{"name": "all", "to": list(peers)}],
            }
        )
        for title in ("SLOW", "MANY"):
            self.node.wait_for_stream(title)

    def flows(self) -> list[Flow]:
        """Begin three flows, each from a sender of its own to a stream of its own."""
        pairs = [("QUICK", "CT1"), ("SLOW", "CT2"), ("MANY", "MR1")]
        return [
            Flow(self.node, self.folder / f"to-{called}", called, calling, most_waiting=6).start()
            for called, calling in pairs
        ]

    def pacs_folders(self) -> list[Path]:
        """Hold each instance once, as a PACS that knows its UID does."""
        once = self.folder / "once"
        once.mkdir(exist_ok=True)
        for path, came in self.kept_at("steady"):
            if not (link := once / came.sop_instance_uid).exists():
                os.link(path, link)
        return [once]

    def kept_at(self, destination: str) -> list[tuple[Path, Came]]:
        """List what a destination kept, each time it came."""
        if destination == "flaky":
            return [(self.flaky.folder / c.sop_instance_uid, c) for c in self.flaky.kept]
        found = []
        for path in self.pacs.files():
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            found.append((path, Came(str(ds.SOPInstanceUID), path.stat().st_mtime)))
        return found


@pytest.fixture
def dice() -> random.Random:
    seed = os.environ.get("BROOKBOX_KILL_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"BROOKBOX_KILL_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def crossroads(tmp_path: Path, dice: random.Random) -> Iterator[Crossroads]:
    town = Crossroads(tmp_path, dice)
    try:
        town.start()
        town.add_streams()
        yield town
    finally:
        town.stop()


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(20, marks=pytest.mark.timeout(600)),
        pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(5400)]),
    ],
)
def test_random_kills_lose_double_and_hold_up_nothing(
    crossroads: Crossroads, dice: random.Random, count: int
) -> None:
    town = crossroads
    flows = town.flows()
    killer = Killer(town.node, dice, lambda: len(town.node.jobs()))
    try:
        killer.kill_all(count)
    finally:
        print(f"\n{killer.counts()}")
        for one in flows:
            one.stop()
        town.flaky.calm_down()
    findings = town.settle(*flows, seconds=180)
    _tell(town, flows)
    assert findings == []
    assert _not_processed(town) == []
    assert _not_delivered(town) == []
    assert _doubled(town, killer) == []


def _tell(town: Crossroads, flows: list[Flow]) -> None:
    jobs, sent = town.node.jobs(), town.node.deliveries("delivered")
    states = Counter(job.state for job in jobs)
    print(f"studies {sum(one.studies for one in flows)}, instances acknowledged {len(town.told)}, "
          f"refused and sent again {sum(one.refused for one in flows)}")  # fmt: skip
    print(f"jobs {dict(states)}, attempts {sum(job.attempt for job in jobs)}")
    again = sum(one.attempt - 1 for one in sent)
    print(f"deliveries {len(sent)}, attempts beyond the first {again}; the flaky PACS refused "
          f"{town.flaky.refused}, aborted {town.flaky.aborted}, "
          f"was away {len(town.flaky.went_away)} times")  # fmt: skip
    for name in ("steady", "flaky"):
        kept = town.kept_at(name)
        uids = {came.sop_instance_uid for _, came in kept}
        print(f"{name}: {len(uids)} instances, {len(kept) - len(uids)} came again")


def _not_processed(town: Crossroads) -> list[str]:
    """Name each study of which no job has everything that was acknowledged."""
    sent: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in town.told:
        ds = pydicom.dcmread(one.file, stop_before_pixels=True)
        sent[one.called_ae_title, str(ds.StudyInstanceUID)].add(str(ds.SOPInstanceUID))
    done = {
        (job.ae_title, job.study_uid): job.input_count
        for job in town.node.jobs()
        if job.state == "succeeded" and job.superseded_by is None
    }
    lost = [
        f"{study} of {title}: {len(uids)} acknowledged, {done.get((title, study))} processed"
        for (title, study), uids in sent.items()
        if done.get((title, study)) != len(uids)
    ]
    states = {job.state for job in town.node.jobs() if job.superseded_by is None}
    return lost + [f"jobs are {states}"] * (states != {"succeeded"})


def _not_delivered(town: Crossroads) -> list[str]:
    """Name each result that did not reach a destination, and each that the index sent twice."""
    told = []
    per_job = Counter((one.job_id, one.destination) for one in town.node.deliveries())
    told += [f"job {job} has {n} deliveries to {to}" for (job, to), n in per_job.items() if n > 1]
    held = {
        name: {came.sop_instance_uid for _, came in town.kept_at(name)}
        for name in ("steady", "flaky")
    }
    delivered = {(one.job_id, one.destination) for one in town.node.deliveries("delivered")}
    for job in town.node.jobs()[town.jobs_before :]:
        if job.superseded_by is not None:
            continue
        with town.node.db.read() as connection:
            uids = {one.sop_instance_uid for one in catalog.results_of(connection, job.id)}
        for name in held:
            if (job.id, name) not in delivered:
                told.append(f"job {job.id} was not delivered to {name}")
            if lacking := uids - held[name]:
                told.append(f"{name} lacks {len(lacking)} results of job {job.id}")
    return told


def _doubled(town: Crossroads, killer: Killer) -> list[str]:
    """Name each instance that came again to a PACS that had answered it, without a cause.

    A router that dies between the answer and its note in the index sends again, and so
    does one whose peer went away with the answer; nothing else may.
    """
    causes = {"steady": killer.of("router", "supervisord")}
    causes["flaky"] = causes["steady"] + town.flaky.went_away
    told = []
    for name, moments in causes.items():
        times: dict[str, list[float]] = defaultdict(list)
        for _, came in town.kept_at(name):
            times[came.sop_instance_uid].append(came.at)
        for uid, at in times.items():
            at.sort()
            for first, again in itertools.pairwise(at):
                until = min(again, first + _TOLD_SECONDS)
                if not any(first - 1 <= one <= until for one in moments):
                    told.append(f"{name} was sent {uid} at {first} and again at {again}")
    return told
