"""A store to erase from, what is searched for afterwards, and a process that is killed at it."""

from __future__ import annotations

import contextlib
import gzip
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from pydicom.dataset import Dataset

from appliance.disk.layout import Layout
from appliance.erasure.act import Erasing
from appliance.index import database, events, jobs, migrate
from appliance.index import schema as t
from appliance.index.database import Database
from appliance.index.events import Event
from appliance.index.extent import Subject
from appliance.index.jobs import NewJob
from appliance.intake.filing import Kept
from appliance.intake.take import Intake
from appliance.settings import Settings
from tests.unit.intake.given import CT1, LITTLE, bytes_of

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENT = Subject("patient", "P-SEEDED-1")


@contextlib.contextmanager
def empty_box(settings: Settings, scratch: Path) -> Iterator[Box]:
    """Lend a node's folder, on which nothing runs."""
    settings.home.mkdir()
    db = database.connect(settings)
    migrate.migrate(db)
    layout = Layout(settings.data_root)
    layout.make()
    scratch.mkdir()
    intake = Intake(db, layout, "BROOKBOX")
    yield Box(settings, db, intake, scratch)
    intake.close()
    db.close()


def words_of(study: Iterable[Dataset]) -> list[bytes]:
    """Give what must not be found any more of a study: name, ID and every UID."""
    found = {b"Seeded^Name", b"Seeded Name", b"P-SEEDED-1"}
    for ds in study:
        for uid in (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID):
            found.add(str(uid).encode())
    return sorted(found)


def places(folder: Path, words: Iterable[bytes]) -> list[str]:
    """List where these words stand below a folder: in names, in bytes, in what is packed."""
    wanted = list(words)
    found = []
    for path in sorted(folder.rglob("*")):
        for word in wanted:
            if word in str(path.relative_to(folder)).encode():
                found.append(f"the name {path} has {word.decode()}")
            if path.is_file() and any(word in raw for raw in _contents(path)):
                found.append(f"{path} has {word.decode()}")
    return found


def _contents(path: Path) -> Iterator[bytes]:
    yield path.read_bytes()
    with contextlib.suppress(OSError, EOFError), gzip.open(path) as packed:
        yield packed.read()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def bytes_below(*folders: Path) -> dict[str, bytes]:
    """Read every file below some folders."""
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass
class Box:
    """An index and folders, and the way in to them."""

    settings: Settings
    db: Database
    intake: Intake
    scratch: Path

    @property
    def layout(self) -> Layout:
        return Layout(self.settings.data_root)

    @property
    def erasing(self) -> Erasing:
        return Erasing(self.settings, self.db)

    def send(self, ds: Dataset, level: str | None = None, at: datetime | None = None) -> Kept:
        """Keep one instance, as the receiver does."""
        return self.intake.keep(
            bytes_of(ds, self.scratch),
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
            transfer_syntax_uid=LITTLE,
            sender=CT1,
            level=level,
            now=at or datetime.now(UTC),
        )

    def job(self, study_uid: str, state: str = "succeeded") -> int:
        """Make a job that has ended, or is in another state, with a folder."""
        now = datetime.now(UTC)
        new = NewJob("ECHO", study_uid, "", 0, "CT1", "::1", "d", (), "s", False, now, now)
        with self.db.write() as connection:
            job_id = jobs.create(connection, new, now)
            ended = now if state in ("succeeded", "failed") else None
            update = sa.update(t.jobs).where(t.jobs.c.id == job_id)
            connection.execute(update.values(state=state, ended_at=ended, reason="r"))
        folder = self.layout.job(job_id)
        folder.output.mkdir(parents=True)
        folder.log.write_text(f"working on {study_uid}\n")
        return job_id

    def events(self, kind: str = "") -> list[Event]:
        with self.db.read() as connection:
            return events.latest(connection, 1000, kind=kind)

    def count(self, table: sa.Table) -> int:
        with self.db.read() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0

    def erase(self, subject: Subject = PATIENT) -> None:
        """Erase, now."""
        assert self.erasing.erase(subject, "me", datetime.now(UTC)) is not None

    def found(self, study: Iterable[Dataset]) -> list[str]:
        """Search everything for what was known of a study."""
        words = words_of(study)
        return places(self.settings.data_root, words) + self._rows_with(words)

    def _rows_with(self, words: Iterable[bytes]) -> list[str]:
        rows = []
        with self.db.read() as connection:
            for table in t.metadata.sorted_tables:
                rows += [f"{table.name}: {row}" for row in connection.execute(sa.select(table))]
        return [row for row in rows if any(word.decode() in row for word in words)]


def killed_at(box: Box, step: str, subject: Subject = PATIENT) -> None:
    """Begin an erasure in another process that is killed with SIGKILL when it comes to a step."""
    script = f"""
import os, signal
from datetime import UTC, datetime
from pathlib import Path
from appliance.disk import trash
from appliance.erasure import act, journal
from appliance.index import database, erasure, wiping
from appliance.index.extent import Subject
from appliance.settings import Index, Settings

def die(*args, **words):
    os.kill(os.getpid(), signal.SIGKILL)

def die_second(plain):
    calls = []
    def twice(*args, **words):
        calls.append(1)
        return plain(*args, **words) if len(calls) == 1 else die()
    return twice

steps = dict(
    begin=lambda: setattr(erasure, "begin", die),
    marked=lambda: setattr(journal, "write", die_second(journal.write)),
    files=lambda: setattr(act.Erasing, "_take_files", die),
    one_file=lambda: setattr(trash, "take", die_second(trash.take)),
    rows=lambda: setattr(act.Erasing, "_erase_rows", die),
    bytes=lambda: setattr(act.Erasing, "_remove_bytes", die),
    logs=lambda: setattr(act.Erasing, "_overwrite", die),
    index=lambda: setattr(wiping, "wipe", die),
    end=lambda: setattr(trash, "end", die),
)
steps[{step!r}]()
home, url = {str(box.settings.home)!r}, {box.settings.index.url!r}
settings = Settings(home=Path(home), index=Index(url=url))
subject = Subject({subject.kind!r}, {subject.value!r})
act.Erasing(settings, database.connect(settings)).erase(subject, "me", datetime.now(UTC))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
