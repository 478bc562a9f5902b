"""What goes and what stays: decisions as tables, then on a real index with real files."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from appliance.dicom.header import Header
from appliance.disk.layout import Layout, instance_path
from appliance.errors import IndexUnavailable
from appliance.housekeeper import removal, retention
from appliance.housekeeper.retention import Volume
from appliance.housekeeper.sweep import Sweeper
from appliance.index import arrivals, catalog, deliveries, events, jobs
from appliance.index import retention as index
from appliance.index import schema as t
from appliance.index.arrivals import Reception
from appliance.index.database import Database
from appliance.index.jobs import NewJob
from appliance.index.retention import Hindrance, Holding
from appliance.settings import Housekeeper

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = Housekeeper(inputs_days=7, results_days=30, logs_days=90, high_percent=85, low_percent=75)


def holding(days: float, kind: str = "received", size: int = 100, files: int = 1) -> Holding:
    job = None if kind == "received" else 1
    return Holding(kind, f"1.{days}", job, size, files, NOW - timedelta(days=days))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "days", "goes"),
    [
        ("received", 6.9, False),
        ("received", 7.1, True),
        ("results", 7.1, False),
        ("results", 29.9, False),
        ("results", 30.1, True),
    ],
)
def test_age_decides(kind: str, days: float, goes: bool) -> None:
    assert retention.is_too_old(holding(days, kind), RULES, NOW) is goes


def volume(used: int, used_files: int = 0, files: int = 0) -> Volume:
    return Volume(1000, 1000 - used, files, files - used_files)


@pytest.mark.parametrize(
    ("full", "chosen"),
    [
        (volume(850), []),  # at 85 % nothing has to go yet
        (volume(860), [9, 8]),  # 110 bytes down to 750
        (volume(950), [9, 8]),
        (volume(951), [9, 8, 3]),
        (volume(100, used_files=90, files=100), [9, 8, 3]),  # inodes count as well
        (volume(100, used_files=80, files=100), []),
        (volume(999, used_files=0, files=0), [9, 8, 3]),  # a file system without inodes
    ],
)
def test_the_oldest_make_room_down_to_the_low_mark(full: Volume, chosen: list[int]) -> None:
    holdings = [holding(8), holding(3), holding(9)]
    found = retention.to_make_room(holdings, full, RULES)
    assert [one.study_uid for one in found] == [f"1.{days}" for days in chosen]


def test_what_holds_the_space_is_said_in_gigabytes() -> None:
    hindrances = [Hindrance("jobs wait or run", 3, 12_000_000_000)]
    said = retention.what_holds(volume(900), hindrances, RULES, 3_000_000_000)
    assert "90 % full" in said
    assert "12 GB of 3 studies (jobs wait or run)" in said
    assert "3 GB that are not instances of this node" in said


# -- on a real index ---------------------------------------------------------------------------


class Store:
    """An index and files, filled by hand."""

    def __init__(self, db: Database, root: Path) -> None:
        self.db, self.layout = db, Layout(root)
        self.layout.make()

    def instance(self, study: str, name: str, at: datetime, job: int | None = None) -> Path:
        header = Header("1.2.3", f"{study}.{name}", study, f"{study}.9", "1.2.840.10008.1.2.1")
        path = instance_path(study, header.series_uid, header.sop_instance_uid)
        file = self.layout.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 100)
        with self.db.write() as connection:
            catalog.add_instance(
                connection, header, path=path, size_bytes=100, dataset_sha256="0" * 64,
                now=at, made_by_job=job,
            )  # fmt: skip
            if job is None:
                reception = Reception(
                    header.sop_instance_uid, study, header.series_uid, "S", "CT1", "::1", "a", at
                )
                arrivals.receive(connection, reception, None)
        return file

    def job(self, study: str, ended: datetime | None, **values: object) -> int:
        new = NewJob(
            ae_title="S", study_uid=study, series_uid="", priority=0, calling_ae_title="CT1",
            address="::1", input_digest="d", inputs=(f"{study}.1",), result_seed="s",
            incomplete=False, first_instance_at=NOW, last_instance_at=NOW, run_again_of=1,
        )  # fmt: skip
        with self.db.write() as connection:
            job_id = jobs.create(connection, new, NOW - timedelta(days=50))
            if ended is not None:
                values = {"state": "succeeded", "ended_at": ended, "routed_at": ended} | values
            if values:
                connection.execute(sa.update(t.jobs).where(t.jobs.c.id == job_id).values(**values))
        folder = self.layout.job(job_id)
        folder.output.mkdir(parents=True)
        (folder.output / "table.csv").write_text("1,2")
        folder.log.write_text("log")
        return job_id

    def sweep(self, rules: Housekeeper = RULES, now: datetime = NOW) -> str:
        return Sweeper(self.db, self.layout).sweep(rules, now)

    def studies(self) -> set[str]:
        with self.db.read() as connection:
            return set(connection.scalars(sa.select(t.studies.c.study_uid)))


@pytest.fixture
def store(db: Database, tmp_path: Path) -> Store:
    return Store(db, tmp_path / "data")


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def test_received_studies_go_a_week_after_their_last_job(store: Store) -> None:
    old = store.instance("1.1", "1", ago(20))
    store.job("1.1", ago(8))
    young = store.instance("1.2", "1", ago(20))
    store.job("1.2", ago(8))
    store.job("1.2", ago(6))
    without_job = store.instance("1.3", "1", ago(8))
    assert store.sweep() == ""
    assert store.studies() == {"1.2"}
    assert not old.exists() and not without_job.exists() and young.exists()
    assert not old.parent.parent.exists(), "the empty folders stay"
    with store.db.read() as connection:
        said = events.latest(connection, 10, kind="removed")
    assert {event.study_uid for event in said} == {"1.1", "1.3"}


def test_results_outlive_what_they_were_made_of(store: Store) -> None:
    job_id = store.job("1.1", ago(8))
    received = store.instance("1.1", "1", ago(20))
    result = store.instance("1.1", "5", ago(8), job_id)
    store.sweep()
    assert not received.exists() and result.exists()
    store.sweep(now=NOW + timedelta(days=23))
    assert not result.exists() and store.studies() == set()
    assert store.layout.job(job_id).log.exists(), "the log went with the results"
    assert not store.layout.job(job_id).output.exists()
    store.sweep(now=NOW + timedelta(days=83))
    assert not store.layout.job(job_id).path.exists()


BUSY = {
    "a job waits": {"state": "queued"},
    "a job runs": {"state": "running"},
    "a person must release it": {"is_held": True, "state": "succeeded", "ended_at": ago(40)},
    "the router has not seen it": {"routed_at": None, "state": "partial", "ended_at": ago(40)},
}


@pytest.mark.parametrize("why", BUSY)
def test_what_is_still_needed_never_goes(store: Store, why: str) -> None:
    file = store.instance("1.1", "1", ago(200))
    store.job("1.1", ago(200))
    store.job("1.1", None, **BUSY[why])
    full = replace(RULES, high_percent=0.001, low_percent=0.001)
    said = store.sweep(full)
    assert file.exists() and store.studies() == {"1.1"}
    assert "nothing more may be removed" in said and "1 study" in said


def test_what_is_not_delivered_never_goes(store: Store) -> None:
    file = store.instance("1.1", "1", ago(200))
    job_id = store.job("1.1", ago(200))
    with store.db.write() as connection:
        deliveries.create(
            connection, job_id=job_id, destination="pacs", what="output", rule="r",
            instances=[], now=ago(200),
        )  # fmt: skip
    store.sweep()
    assert file.exists()
    with store.db.write() as connection:
        connection.execute(sa.update(t.deliveries).values(state="gave_up"))
    store.sweep()
    assert not file.exists()


def test_what_is_still_arriving_never_goes(store: Store) -> None:
    file = store.instance("1.1", "1", ago(200))
    with store.db.write() as connection:
        late = Reception("1.1.1", "1.1", "1.1.9", "S", "CT1", "::1", "b", NOW)
        arrivals.receive(connection, late, "study")
    store.sweep()
    assert file.exists()


def test_a_full_volume_lets_the_oldest_go_early(store: Store) -> None:
    files = [store.instance(f"1.{n}", "1", ago(n)) for n in (1, 2, 3)]
    store.sweep(replace(RULES, high_percent=0.001, low_percent=0.001))
    assert not any(file.exists() for file in files)


def test_a_file_that_was_received_again_meanwhile_stays(store: Store) -> None:
    file = store.instance("1.1", "1", ago(20))
    path = str(file.relative_to(store.layout.root))
    holding = Holding("received", "1.1", None, 100, 1, ago(20))
    assert index.forget(store.db, holding) == [path]
    store.instance("1.1", "1", NOW)
    assert removal.remove_without_row(store.db, store.layout, [path]) == 0
    assert file.exists()


def test_a_study_that_was_sent_again_stays_another_week(store: Store) -> None:
    """Also to the node itself, where no arrival and no job speaks for it."""
    file = store.instance("1.1", "1", ago(8))
    store.instance("1.1", "1", ago(1))
    store.sweep()
    assert file.exists()
    store.sweep(now=NOW + timedelta(days=6.1))
    assert not file.exists()


@pytest.mark.parametrize("level", ["study", None])
def test_an_instance_that_is_received_as_it_is_to_go_stays(store: Store, level: str | None) -> None:
    store.instance("1.1", "1", ago(20))
    holding = Holding("received", "1.1", None, 100, 1, ago(20))
    went: list[list[str]] = []
    thread = threading.Thread(target=lambda: went.append(index.forget(store.db, holding)))
    again = Header("1.2.3", "1.1.1", "1.1", "1.1.9", "1.2.840.10008.1.2.1")
    with store.db.write() as connection:
        store.db.lock(connection, "instance 1.1.1")
        thread.start()
        thread.join(0.5)
        catalog.add_instance(
            connection, again, path="p", size_bytes=1, dataset_sha256="0" * 64, now=NOW
        )
        late = Reception("1.1.1", "1.1", "1.1.9", "S", "CT1", "::1", "b", NOW)
        arrivals.receive(connection, late, level)
    thread.join(10)
    assert went == [[]]


def test_orphans_go_after_ten_minutes_only(store: Store) -> None:
    known = store.instance("1.1", "1", NOW)
    orphan = known.with_name("1.1.77.dcm")
    orphan.write_bytes(b"y")
    assert removal.remove_orphans(store.db, store.layout) == 0
    assert removal.remove_orphans(store.db, store.layout, age_seconds=-5) == 1
    assert known.exists() and not orphan.exists()


def test_files_whose_rows_went_before_an_error_go_with_the_next_sweep(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, sweeper = store.instance("1.2", "1", ago(20)), Sweeper(store.db, store.layout)
    plain, busy = removal.remove_without_row, IndexUnavailable("it is busy", remedy="wait")

    def fail(*_: object) -> int:
        raise busy

    monkeypatch.setattr(removal, "remove_without_row", lambda db, layout, paths: paths and fail())
    with pytest.raises(IndexUnavailable):
        sweeper.sweep(RULES, NOW)
    assert file.exists() and store.studies() == set()
    monkeypatch.setattr(removal, "remove_without_row", plain)
    sweeper.sweep(RULES, NOW)
    assert not file.exists()


def test_ft_22_a_volume_that_fills_up_does_not_wait_for_the_next_sweep(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper, now_used = Sweeper(store.db, store.layout), 500
    monkeypatch.setattr(sweeper, "volume", lambda: volume(now_used))
    assert not sweeper.is_needed(RULES)
    file, now_used = store.instance("1.1", "1", ago(1)), 900
    assert sweeper.is_needed(RULES)
    assert sweeper.sweep(RULES, NOW) == ""
    assert not file.exists()
    assert sweeper.is_needed(RULES), "it is full still, and more may go"
    assert "nothing more may be removed" in sweeper.sweep(RULES, NOW)
    assert not sweeper.is_needed(RULES), "what holds the space is counted with each sweep only"
    now_used = 500
    assert sweeper.is_needed(RULES), "the page says that it is full"
    assert sweeper.sweep(RULES, NOW) == ""
    assert not sweeper.is_needed(RULES)


def test_what_a_dead_process_left_is_noticed(store: Store) -> None:
    folder = store.layout.incoming / "p-dead"
    folder.mkdir()
    (folder / "a.b").write_bytes(b"x")
    assert not removal.has_leftovers(store.layout)
    assert removal.has_leftovers(store.layout, age_seconds=-5)


def test_ft_29_leases_move_with_the_clock(store: Store) -> None:
    job_id = store.job("1.1", None, state="running", lease_until=NOW)
    assert index.move_leases(store.db, timedelta(days=365)) == 1
    with store.db.read() as connection:
        assert jobs.get(connection, job_id).lease_until == NOW + timedelta(days=365)


def test_ft_29_moments_of_a_next_try_move_with_the_clock(store: Store) -> None:
    waiting = store.job("1.1", None, state="queued", not_before=NOW)
    job_id = store.job("1.2", ago(1))
    with store.db.write() as connection:
        due = deliveries.create(
            connection, job_id=job_id, destination="pacs", what="output", rule="r",
            instances=[], now=NOW,
        )  # fmt: skip
    assert due is not None
    back = timedelta(days=-365)
    index.move_leases(store.db, back)
    with store.db.read() as connection:
        assert jobs.get(connection, waiting).not_before == NOW + back
        assert deliveries.get(connection, due).due_at == NOW + back


def test_results_of_another_study_stay_while_their_job_is_not_done(store: Store) -> None:
    """A stream that changes the patient makes results of a study that no job is over."""
    job_id = store.job("1.1", ago(200), is_held=True)
    result = store.instance("2.1", "1", ago(200), job_id)
    full = replace(RULES, high_percent=0.001, low_percent=0.001)
    store.sweep()
    store.sweep(full)
    assert result.exists(), "held results were removed"
    holding = Holding("results", "2.1", job_id, 100, 1, ago(200))
    assert index.forget(store.db, holding) == []
    with store.db.write() as connection:
        connection.execute(sa.update(t.jobs).values(is_held=False))
        deliveries.create(
            connection, job_id=job_id, destination="pacs", what="output", rule="r",
            instances=["2.1.1"], now=ago(200),
        )  # fmt: skip
    store.sweep(full)
    assert result.exists(), "undelivered results were removed"
    with store.db.write() as connection:
        connection.execute(sa.update(t.deliveries).values(state="delivered"))
    store.sweep()
    assert not result.exists()


def test_a_job_that_was_queued_again_meanwhile_keeps_its_folder(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = store.job("1.1", ago(200)), store.job("1.2", ago(100))
    plain = removal.size_of

    def size_of(folder: Path) -> tuple[int, int]:
        with store.db.write() as connection:
            again = sa.update(t.jobs).where(t.jobs.c.id == second).values(state="running")
            connection.execute(again)
        return plain(folder)

    monkeypatch.setattr(removal, "size_of", size_of)
    store.sweep(replace(RULES, high_percent=0.001, low_percent=0.001, logs_days=999))
    assert not store.layout.job(first).output.exists()
    assert store.layout.job(second).output.exists()
