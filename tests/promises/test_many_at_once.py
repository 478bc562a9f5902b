"""FT-34: more at once than there is room for, and more of everything than on most days.

Who is one too many is told so for now (2,3,2), and gets through when it sends again.  Nothing
that was acknowledged is lost, nobody dies, and afterwards the node holds what it held before.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock

import psutil
import pytest
import sqlalchemy as sa
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from appliance.dicom import part10
from appliance.index import schema
from tests.faults.checker import Acknowledged, Evidence, check, data_set_offset
from tests.faults.measures import Usage, program_of, usage
from tests.kit import peers
from tests.kit.dicom import ct_slice, ct_study, write, write_study
from tests.kit.node import Node
from tests.kit.raw_scu import RawSCU, Refused
from tests.kit.scripts import QUICK
from tests.kit.waiting import rows_follow, wait_for
from tests.promises.growth import MOST_BYTES_A_JOB, Growth
from tests.service.conftest import Receiver

CT = {(1, str(CTImageStorage)): [str(ExplicitVRLittleEndian)]}
MB = 1_000_000
_FULL = "PDU 3: 00020302"  # A-ASSOCIATE-RJ: transient, by the presentation service, a limit
_PAUSE_SECONDS = 0.05  # of a sender that was refused
_AT_ONCE = 32  # of one address, which may have 16: receiver.max_connections_per_address


def asked(port: int, called: str, source: str = "127.0.0.1") -> RawSCU | None:
    """Ask for an association; None when it was refused for now."""
    try:
        return RawSCU(port, CT, called=called, source=source)
    except Refused as refused:
        assert str(refused) == _FULL
        return None


def let_in(port: int, called: str, source: str = "127.0.0.1") -> tuple[RawSCU, int]:
    """Ask until there is room; the association, and how often it was refused."""
    refusals = 0
    while (scu := asked(port, called, source)) is None:
        refusals += 1
        time.sleep(_PAUSE_SECONDS)
    return scu, refusals


def store(scu: RawSCU, file: Path) -> None:
    """Store a file; it is acknowledged."""
    meta, start = part10.read_meta(file)
    assert scu.store(file.read_bytes()[start:], meta.sop_class_uid, meta.sop_instance_uid) == 0


class Images:
    """Tiny images of one study, each made when it is sent: they differ in their UIDs."""

    def __init__(self, folder: Path) -> None:
        ds = ct_slice(size=8)
        self.study_uid = str(ds.StudyInstanceUID)
        self._root = f"1.2.826.0.1.3680043.9.7.{10**9 + secrets.randbelow(10**9)}"
        ds.SOPInstanceUID = self.uid(0)
        raw = write(ds, folder / "one.dcm").read_bytes()
        before, _, after = raw[data_set_offset(raw) :].partition(self.uid(0).encode())
        self._around = before, after

    def uid(self, number: int) -> str:
        return f"{self._root}.{10_000_000 + number}"

    def store(self, scu: RawSCU, number: int) -> None:
        """Store one of them; it is acknowledged."""
        data_set = self.uid(number).encode().join(self._around)
        assert scu.store(data_set, str(CTImageStorage), self.uid(number)) == 0

    def uids(self, count: int) -> set[str]:
        """Give the UIDs of the first of them."""
        return {self.uid(number) for number in range(count)}


def peak_bytes(processes: Iterable[psutil.Process]) -> int:
    """Sum the largest resident memory that each has had since it began."""
    found = 0
    for one in processes:
        for line in Path(f"/proc/{one.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                found += int(line.split()[1]) * 1024
    return found


def together(count: int, work: Callable[[int], int]) -> list[int]:
    """Do something in so many threads at once; what each gives."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


# -- many associations at once ------------------------------------------------------------------


@pytest.fixture
def crowded(receiver: Receiver, request: pytest.FixtureRequest) -> Receiver:
    """A receiver that runs, with so many places for associations."""
    receiver.settings = {"receiver": {"max_associations": request.param}}
    receiver.write_settings()
    return receiver.start()


def sent(receiver: Receiver, number: int, files: Sequence[Path], all_asked: Barrier) -> int:
    """Send files from an address of its own, as long as it takes; how often it was refused."""
    source = f"127.0.4.{1 + number}"
    scu = asked(receiver.port, "ECHO", source)
    left = list(files)
    if scu is not None:
        store(scu, left.pop(0))  # who brings nothing gives way to others
    all_asked.wait(60)
    refusals = int(scu is None)
    if scu is None:
        scu, more = let_in(receiver.port, "ECHO", source)
        refusals += more
    for file in left:
        store(scu, file)
    scu.release()
    return refusals


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("crowded", "each"),
    [(12, 4), (50, 4), pytest.param(12, 100, marks=pytest.mark.long),
     pytest.param(50, 100, marks=pytest.mark.long)],
    indirect=["crowded"],
)  # fmt: skip
def test_ft_34_fifty_associations_at_once_all_get_through(
    crowded: Receiver, each: int, tmp_path: Path
) -> None:
    first = write_study(ct_study(1), tmp_path / "first")
    assert peers.storescu(first, crowded.port, "ECHO").acknowledged == first
    children = crowded.children()
    family = [psutil.Process(crowded.process.pid), *children]
    before, at_peak = usage(family), peak_bytes(children)
    studies = [write_study(ct_study(each, size=32), tmp_path / f"{n}") for n in range(50)]
    all_asked = Barrier(50)

    refusals = together(50, lambda n: sent(crowded, n, studies[n], all_asked))

    places = crowded.loaded.receiver.max_associations
    at_first = refusals.count(0)
    # Two processes that count at the same moment may each let one more in.
    assert places <= at_first <= min(places + 1, 50)
    assert peak_bytes(children) - at_peak < 50 * MB, "a megabyte for each of them, at most"
    assert {one.pid for one in crowded.children()} == {one.pid for one in children}
    crowded.settle()
    told = [Acknowledged(file, "ECHO") for study in studies for file in study]
    evidence = Evidence(
        crowded.layout.root, crowded.db, told, is_quiet=False,
        processes_before=before, processes=family,
    )  # fmt: skip
    assert check(evidence) == []
    assert len(crowded.stored()) == len(told) + 1
    last = write_study(ct_study(1), tmp_path / "last")
    assert peers.storescu(last, crowded.port, "ECHO").acknowledged == last


# -- many associations, and many instances, one after the other ---------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that runs and has received its first study."""
    one = Node(tmp_path_factory.mktemp("many") / "node", {"worker": {"docker": "never"}}, ())
    try:
        one.start()
        one.add_stream("QUICK", QUICK, quiet_seconds=0.5)
        one.wait_for_stream("QUICK")
        files = write_study(ct_study(3), one.home / "first")
        assert one.send(files, "QUICK").acknowledged == files
        wait_for(lambda: is_done(one, 1), "its job has ended", 60)
        yield one
    finally:
        one.stop()


def is_done(node: Node, jobs: int) -> bool:
    """Say whether there are so many jobs, and nothing is to be done any more."""
    if rows_follow(node.layout.incoming):
        return False
    found = node.jobs()
    ended = all(job.state == "succeeded" and job.routed_at for job in found)
    return len(found) >= jobs and ended and not node.open_arrivals()


def receivers(node: Node) -> list[psutil.Process]:
    return node.processes("receiver")


def kept(node: Node, study_uid: str) -> set[str]:
    """Give the SOP Instance UIDs that the index has of what was received for a study."""
    table = schema.instances
    query = sa.select(table.c.sop_instance_uid).where(table.c.study_uid == study_uid)
    with node.db.read() as connection:
        return set(connection.scalars(query.where(table.c.made_by_job.is_(None))))


class Flood:
    """Associations of one address as fast as they go, each with one image, or refused for now."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.images = Images(folder)
        self.accepted = self.refused = 0
        self._lock = Lock()

    def associations(self, count: int) -> None:
        """Have so many of them accepted."""
        last = self.accepted + count
        together(_AT_ONCE, lambda _: self._until(last))

    def _until(self, last: int) -> int:
        while True:
            with self._lock:
                if self.accepted >= last:
                    return 0
                number, self.accepted = self.accepted, self.accepted + 1
            scu, refusals = let_in(self.node.port, "BROOKBOX")
            with self._lock:
                self.refused += refusals
            self.images.store(scu, number)
            scu.release()


def is_whole(node: Node, processes: list[psutil.Process], before: Mapping[str, Usage]) -> list[str]:
    """Give what the checker finds when all is done."""
    evidence = Evidence(
        node.layout.root, node.db, logs=[node.out], processes_before=before, processes=processes
    )
    return check(evidence)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("bursts", "burst", "most_bytes_each"),
    [(6, 100, 100_000), pytest.param(20, 500, MOST_BYTES_A_JOB, marks=pytest.mark.long)],
)
def test_ft_34_many_associations_in_a_short_time_are_all_answered(
    node: Node, tmp_path: Path, bursts: int, burst: int, most_bytes_each: int
) -> None:
    before, parts = usage(node.family()), {one.pid for one in receivers(node)}
    flood, growth, seconds = Flood(node, tmp_path), Growth(node), 0.0
    for _ in range(bursts):
        began = time.monotonic()
        flood.associations(burst)
        seconds += time.monotonic() - began
        wait_for(lambda: is_done(node, 1), "all rows are there", 60)
        growth.sample(flood.accepted)
    print(f"\n{flood.accepted} associations in {seconds:.1f} s, {flood.refused} refused for now")
    print(growth.table())
    assert flood.refused, "more than an address may have were there at once"
    assert kept(node, flood.images.study_uid) == flood.images.uids(flood.accepted)
    assert {one.pid for one in receivers(node)} == parts
    # Until the first half is over a process finds its size (`tests.promises.growth`).
    later = growth.between(flood.accepted // 2, flood.accepted)
    assert later.findings(flood.accepted // 6, "receiver", most_bytes_a_job=most_bytes_each) == []
    assert is_whole(node, node.family(), before) == []
    last = write_study(ct_study(1), tmp_path / "last")
    assert node.send(last, "BROOKBOX").acknowledged == last


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_ft_34_a_study_of_very_many_instances_is_one_job(
    node: Node, tmp_path: Path, count: int
) -> None:
    before, jobs = usage(node.family()), len(node.jobs())
    at_peak = {one: peak_bytes([one]) for one in node.family()}
    images = Images(tmp_path)
    open_ones = [let_in(node.port, "QUICK")[0] for _ in range(4)]
    for number, scu in enumerate(open_ones):  # who brings nothing gives way to others
        images.store(scu, number)

    def send(which: int) -> int:
        for number in range(which + 4, count, 4):
            images.store(open_ones[which], number)
        open_ones[which].release()
        return 0

    began = time.monotonic()
    together(4, send)
    seconds = time.monotonic() - began
    wait_for(lambda: is_done(node, jobs + 1), "its job has ended", 900)
    print(f"\n{count} instances in {seconds:.1f} s, done after {time.monotonic() - began:.1f} s")
    grown = [(program_of(one), peak_bytes([one]) - was) for one, was in at_peak.items()]
    print("more at the peak:", *(f"{name} {more / MB:.0f} MB" for name, more in grown))
    [job] = node.jobs()[jobs:]
    assert (job.state, job.input_count) == ("succeeded", count)
    assert kept(node, images.study_uid) == images.uids(count)
    # Who receives forgets each; a job's inputs are listed once by who makes, runs and routes it.
    assert max(more for name, more in grown if name == "receiver") < 50 * MB
    assert max(more for _, more in grown) < 20 * MB + 4_000 * count
    assert is_whole(node, node.family(), before) == []
