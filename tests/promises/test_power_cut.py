"""FT-25: the power goes while studies come in, and what was acknowledged is there afterwards.

The disk is one that remembers its writes (`tests.kit.logged_disk`): after the sending, its content
at random moments of the past is made again as a power cut would have left it, mounted, adopted
and looked through.
"""

from __future__ import annotations

import random
import sqlite3
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.disk.layout import Layout
from appliance.housekeeper import removal
from appliance.index import database
from appliance.intake.adoption import adopt
from appliance.settings import Settings
from appliance.streams.catalog import streams_of
from tests.faults import checker
from tests.faults.checker import Acknowledged
from tests.kit.dicom import ct_study, write_study
from tests.kit.logged_disk import LoggedDisk, PowerCuts, logged_disk, mounted
from tests.service.conftest import Receiver
from tests.service.receiver.peer import associate

_MEGABYTES = 400
# Each study goes to the first AE title, then once more to the second one.
_AE_TITLES = ("ECHO", "SECOND")
Told = list[tuple[int, Acknowledged]]  # how much the disk had logged by then, and of what


@contextmanager
def receiving(tmp_path: Path, disk: LoggedDisk) -> Iterator[Receiver]:
    """Lend a receiver whose data, the index too, is on the disk."""
    receiver = Receiver(
        tmp_path / "node",
        {"node": {"data_root": str(disk.place / "data")}, "receiver": {"reserve_gb": 0.01}},
    )
    receiver.add_stream("SECOND")
    receiver.start()
    try:
        yield receiver
    finally:
        if receiver.is_alive():
            receiver.kill()
        receiver.db.close()


def send(receiver: Receiver, disk: LoggedDisk, files: Sequence[Path], told: Told) -> None:
    """Send a study to one AE title after the other; note when each success came."""
    for called in _AE_TITLES:
        assoc = associate(receiver, called)
        for file in files:
            if assoc.send_c_store(file).Status == 0x0000:
                told.append((disk.position(), Acknowledged(file, called)))
        assoc.release()


def send_all(receiver: Receiver, disk: LoggedDisk, folder: Path, studies: int, slices: int) -> Told:
    """Send studies side by side."""
    told: Told = []
    sending = []
    for number in range(studies):
        files = write_study(ct_study(slices, size=128), folder / str(number))
        words = (receiver, disk, files, told)
        sending.append(threading.Thread(target=send, args=words))
    for one in sending:
        one.start()
    for one in sending:
        one.join()
    return told


def violations(settings: Settings, told: Sequence[Acknowledged]) -> list[str]:
    """Do what a start does with what is there, and say what is wrong then."""
    layout = Layout(settings.data_root)
    with closing(sqlite3.connect(database.sqlite_file(settings))) as connection:
        said = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    found = [f"the index: {one}" for one in said if one != "ok"]
    db = database.open_index(settings)
    try:
        adopt(db, layout, streams_of(settings), datetime.now(UTC))
        # What was torn so that not even its UIDs are left has a name that only the sweep finds.
        removal.remove_orphans(db, layout, 0)
        evidence = checker.Evidence(layout.root, db, told, oldest_temp=timedelta(0))
        return [
            *found,
            *checker.acknowledged_is_kept(evidence),
            *checker.store_matches_index(evidence),
        ]
    finally:
        db.close()


@pytest.mark.parametrize(
    ("studies", "slices", "cuts"),
    [(3, 12, 12), pytest.param(5, 50, 200, marks=pytest.mark.long)],
)
def test_ft_25_what_was_acknowledged_outlives_a_power_cut(
    tmp_path: Path, studies: int, slices: int, cuts: int
) -> None:
    seed = random.randrange(1 << 32)
    with logged_disk(tmp_path / "power", _MEGABYTES) as disk:
        with receiving(tmp_path, disk) as receiver:
            told = send_all(receiver, disk, tmp_path / "sent", studies, slices)
            settings = receiver.loaded
        assert len(told) == studies * slices * len(_AE_TITLES)
        power = PowerCuts(disk, tmp_path / "flushed.img", random.Random(seed))
        place = tmp_path / "after"
        there = replace(settings, node=replace(settings.node, data_root=str(place / "data")))
        loose = 0
        for moment in power.moments(cuts):
            # Each time another file: of the one before the kernel may still hold pages.
            image = tmp_path / f"cut-{moment}.img"
            loose += power.cut(moment, image)
            before = [one for at, one in told if at <= power.position(moment)]
            with mounted(image, place):
                if not (place / "data" / "index.sqlite3").exists():
                    assert before == [], f"seed {seed}, moment {moment}"
                    continue
                assert violations(there, before) == [], f"seed {seed}, moment {moment}"
            image.unlink()
    assert loose > 0, "no cut came while the disk had something to lose"


def test_the_power_cut_does_lose_what_was_not_synced(tmp_path: Path) -> None:
    with logged_disk(tmp_path / "power", 40) as disk:
        at = []
        for number in range(20):
            (disk.place / f"{number}").write_bytes(b"x" * 5000)
            at.append(disk.position())
        subprocess.run(["sync", "-f", disk.place], check=True)
        power = PowerCuts(disk, tmp_path / "flushed.img", random.Random(1))
        lost = 0
        for moment in power.moments(5):
            image = tmp_path / f"cut-{moment}.img"
            power.cut(moment, image)
            with mounted(image, tmp_path / "after") as place:
                told = [n for n in range(20) if at[n] <= power.position(moment)]
                lost += sum(not (place / f"{n}").exists() for n in told)
    assert lost > 0
