"""The index is saved and put back, and made again from files, on both engines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from appliance.dicom.header import Header
from appliance.errors import BackupError
from appliance.index import arrivals, backup, catalog, database, events, jobs, migrate, rebuild
from appliance.index import schema as t
from appliance.index.arrivals import Reception
from appliance.index.database import Database
from appliance.index.jobs import NewJob
from appliance.index.rebuild import StoredFile
from appliance.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def add_event(db: Database, sentence: str) -> None:
    with db.write() as connection:
        events.append(connection, "test", sentence, NOW)


def sentences(db: Database) -> list[str]:
    with db.read() as connection:
        return [event.sentence for event in events.latest(connection, 1000)]


def test_what_was_saved_comes_back(db: Database, index_settings: Settings, tmp_path: Path) -> None:
    add_event(db, "before")
    saved = tmp_path / backup.saved_name(index_settings)
    backup.save_index(index_settings, saved)
    add_event(db, "after")
    db.close()
    backup.load_index(index_settings, saved, NOW)
    again = database.open_index(index_settings)
    assert sentences(again) == ["before"]
    again.close()


def test_a_save_while_others_write_is_of_one_moment(
    db: Database, index_settings: Settings, tmp_path: Path
) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with db.write() as connection:
                for half in ("one", "two"):
                    events.append(connection, "test", half, NOW)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        saved = tmp_path / backup.saved_name(index_settings)
        for _ in range(5):
            backup.save_index(index_settings, saved)
    finally:
        stop.set()
        writer.join()
    db.close()
    backup.load_index(index_settings, saved, NOW)
    again = database.open_index(index_settings)
    found = sentences(again)
    assert found.count("one") == found.count("two")
    again.close()


def test_the_former_sqlite_file_stays_beside_the_new_one(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    db = database.connect(settings)
    migrate.migrate(db)
    db.close()
    saved = tmp_path / "index.sqlite3"
    backup.save_index(settings, saved)
    aside = backup.load_index(settings, saved, NOW)
    assert aside is not None and aside.exists()
    assert aside.name == "index.sqlite3.before-restore-20260301T000000Z"


def test_a_damaged_save_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    saved = tmp_path / "index.sqlite3"
    saved.write_bytes(b"no database" * 1000)
    with pytest.raises(BackupError, match="damaged"):
        backup.load_index(settings, saved, NOW)


def test_a_save_of_the_other_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="another kind of database"):
        backup.load_index(Settings(home=tmp_path), tmp_path / "index.pgdump", NOW)


def test_nothing_stays_of_a_save_that_fails(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no index"):
        backup.save_index(Settings(home=tmp_path), tmp_path / "index.sqlite3")
    assert not list(tmp_path.iterdir())


# -- rebuild -----------------------------------------------------------------------------------


def header(study: str, name: str) -> Header:
    return Header(
        "1.2.3", f"{study}.{name}", study, f"{study}.9", "1.2.840.10008.1.2.1",
        patient_name="Seeded^Name", study_description="Head", instance_number=name,
    )  # fmt: skip


def stored(one: Header, at: datetime, called: str) -> StoredFile:
    return StoredFile(
        one, f"studies/{one.sop_instance_uid}.dcm", 100, "0" * 64, at,
        called, "CT1" if called else "", "10.0.0.1" if called else "",
    )  # fmt: skip


def fill(db: Database) -> tuple[list[StoredFile], list[dict[str, Any]]]:
    """Fill an index as the node does; give what its files would tell."""
    files = [stored(header("1.1", str(n)), NOW + timedelta(seconds=n), "MONTAGE") for n in (1, 2)]
    files.append(stored(header("1.1", "7"), NOW + timedelta(seconds=9), ""))
    with db.write() as connection:
        new = NewJob(
            ae_title="MONTAGE", study_uid="1.1", series_uid="", priority=0,
            calling_ae_title="CT1", address="10.0.0.1", input_digest="d",
            inputs=("1.1.1", "1.1.2"), result_seed="s", incomplete=False,
            first_instance_at=NOW, last_instance_at=NOW,
        )  # fmt: skip
        job_id = jobs.create(connection, new, NOW)
        connection.execute(sa.update(t.jobs).values(state="succeeded", ended_at=NOW, routed_at=NOW))
        for one in files:
            made_by = None if one.called_ae_title else job_id
            catalog.add_instance(
                connection, one.header, path=one.path, size_bytes=one.size_bytes,
                dataset_sha256=one.dataset_sha256, now=one.written_at, made_by_job=made_by,
            )  # fmt: skip
            if made_by is None:
                came = Reception(
                    one.header.sop_instance_uid, "1.1", "1.1.9", "MONTAGE", "CT1", "10.0.0.1",
                    "a", one.written_at,
                )  # fmt: skip
                arrivals.receive(connection, came, None)
        job = jobs.get(connection, job_id)
    record: dict[str, Any] = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(job).items()
    }
    record["inputs"], record["results"] = ["1.1.1", "1.1.2"], ["1.1.7"]
    step = {"attempt": 1, "name": "run", "started_at": NOW.isoformat(), "ended_at": None}
    record["steps"] = [{**step, "detail": ""}]
    return files, [record]


def contents(db: Database) -> dict[str, list[Any]]:
    """Give what a rebuilt index must have alike."""
    receptions = sa.select(
        t.receptions.c.sop_instance_uid, t.receptions.c.called_ae_title,
        t.receptions.c.calling_ae_title, t.receptions.c.address, t.receptions.c.received_at,
    )  # fmt: skip
    tables = (t.studies, t.series, t.instances, t.jobs, t.job_inputs)
    with db.read() as connection:
        found = {table.name: sorted(connection.execute(sa.select(table)).all()) for table in tables}
        found["receptions"] = sorted(connection.execute(receptions).all())
    return {name: [tuple(row) for row in rows] for name, rows in found.items()}


@pytest.fixture
def empty(index_settings: Settings, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A second index, of SQLite, to rebuild from an index of either engine."""
    db = database.connect(Settings(home=index_settings.home / "second"))
    migrate.migrate(db)
    yield db
    db.close()


def test_the_files_give_the_same_index_again(db: Database, empty: Database) -> None:
    files, records = fill(db)
    done = rebuild.rebuild(empty, files, records, highest_job_id=1)
    assert (done.studies, done.instances, done.receptions, done.jobs) == (1, 3, 2, 1)
    assert contents(empty) == contents(db)


def test_job_ids_go_on_above_the_highest_folder(db: Database) -> None:
    done = rebuild.rebuild(db, [], [], highest_job_id=41)
    assert done.next_job_id == 42
    fill_job = NewJob(
        ae_title="A", study_uid="1", series_uid="", priority=0, calling_ae_title="", address="",
        input_digest="", inputs=(), result_seed="", incomplete=False,
        first_instance_at=NOW, last_instance_at=NOW,
    )  # fmt: skip
    with db.write() as connection:
        assert jobs.create(connection, fill_job, NOW) == 42


def test_a_rebuilt_job_is_not_sent_again(db: Database, empty: Database) -> None:
    _, [record] = fill(db)
    record |= {"routed_at": None, "is_held": True, "state": "partial"}
    rebuild.rebuild(empty, [], [record], 1)
    with empty.read() as connection:
        job = jobs.get(connection, 1)
    assert job.routed_at is not None and not job.is_held and "not known" in job.routing_note


def test_a_rebuilt_job_says_who_cancelled_it(db: Database, empty: Database) -> None:
    _, [record] = fill(db)
    record |= {"state": "cancelled", "cancelled_by": "anna"}
    rebuild.rebuild(empty, [], [record], 1)
    with empty.read() as connection:
        assert jobs.get(connection, 1).cancelled_by == "anna"


def test_the_record_of_a_job_that_had_not_ended_is_left_out(db: Database) -> None:
    assert rebuild.rebuild(db, [], [{"id": 3, "state": "running"}], 3).jobs == 0


def test_an_index_that_holds_something_is_not_filled(db: Database) -> None:
    files, _ = fill(db)
    with pytest.raises(BackupError, match="not empty"):
        rebuild.rebuild(db, files, [], 1)
