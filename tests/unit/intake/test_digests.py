"""A digest follows its row: filled in when nobody sends, or by who needs it first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.dispatcher.completeness import Verdict
from appliance.dispatcher.launch import Launched, input_digest, launch
from appliance.erasure import leftovers
from appliance.erasure.leftovers import Matcher
from appliance.index import arrivals, catalog, digests, file_check, schema
from appliance.index.database import Database
from appliance.index.extent import Subject
from appliance.intake.digests import Digests, fill_missing, filled
from appliance.streams.info import StreamInfo
from tests.kit.dicom import ct_slice, ct_study
from tests.kit.waiting import wait_for
from tests.unit.intake.direct import ROOMY, Road
from tests.unit.intake.given import CT1, bytes_of, instance, stored, waiting

NOW = datetime.now(UTC)
INFO = StreamInfo(AETitle="ECHO", name="Echo", version="3")
COMPLETE = Verdict(True, NOW, "Nothing came for 30 s.")


@pytest.fixture
def road(db: Database, layout: Layout) -> Iterator[Road]:
    road = Road(db, layout)
    road.writer._digests.close()  # so that nobody fills them in
    yield road
    road.close()


def sha_of(ds: Dataset, folder: Path) -> str:
    return hashlib.sha256(bytes_of(ds, folder)).hexdigest()


def launched(db: Database, layout: Layout) -> Launched:
    (arrival,) = arrivals.open_arrivals(db, NOW)
    made = launch(db, layout.root, arrival, COMPLETE, INFO, "show", NOW)
    assert made is not None
    return made


def test_they_are_filled_in_once_nobody_sends(db: Database, layout: Layout, tmp_path: Path) -> None:
    road = Road(db, layout)
    study = ct_study(3)
    for ds in study:
        road.send(ds, tmp_path)
    road.settle()
    for ds in study:
        wanted = sha_of(ds, tmp_path)
        wait_for(lambda ds=ds: instance(db, ds).dataset_sha256, "its digest is there")
        assert instance(db, ds).dataset_sha256 == wanted
    road.close()


def test_what_a_dead_process_left_without_is_found_by_the_next(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    ds = ct_slice()
    road.send(ds, tmp_path)
    road.settle()
    assert instance(db, ds).dataset_sha256 == ""
    one = Digests(db, layout)
    one.start()
    wait_for(lambda: instance(db, ds).dataset_sha256, "its digest is there")
    one.close()


def test_who_needs_one_computes_it_and_notes_it(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    study = ct_study(2)
    for ds in study:
        road.send(ds, tmp_path)
    road.settle()
    (layout.root / instance(db, study[1]).path).unlink()
    found = filled(db, layout, [instance(db, ds) for ds in study])
    assert [one.dataset_sha256 for one in found] == [sha_of(study[0], tmp_path), ""]
    assert instance(db, study[0]).dataset_sha256 == found[0].dataset_sha256


def test_a_digest_of_another_content_is_not_noted(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    ds = ct_slice()
    road.send(ds, tmp_path)
    road.settle()
    uid = ds.SOPInstanceUID
    digests.fill_in(db, {uid: ("studies/elsewhere.dcm", "d" * 64)})
    assert instance(db, ds).dataset_sha256 == ""
    digests.fill_in(db, {uid: (instance(db, ds).path, "d" * 64)})
    digests.fill_in(db, {uid: (instance(db, ds).path, "e" * 64)})
    assert instance(db, ds).dataset_sha256 == "d" * 64


def test_a_job_is_made_over_real_digests_and_a_resend_is_identical(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    study = ct_study(2)
    for ds in study:
        road.send(ds, tmp_path)
    road.end()
    road.settle()
    first = launched(db, layout)
    kept = [instance(db, ds) for ds in study]
    assert [one.dataset_sha256 for one in kept] == [sha_of(ds, tmp_path) for ds in study]
    assert first.digest == input_digest(kept)
    sender = replace(CT1, association_id="a2")
    for ds in study:
        road.send(ds, tmp_path, sender)
    road.end(sender)
    road.settle()
    again = launched(db, layout)
    assert again.digest == first.digest
    assert again.job is None
    assert "identical" in again.note


def test_one_that_is_filled_in_during_a_launch_changes_nothing(
    db: Database, layout: Layout, road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.send(ct_slice(), tmp_path)
    road.settle()
    real = arrivals.close_arrival

    def close(connection: sa.Connection, *args: object, **words: object) -> bool:
        connection.execute(sa.update(schema.instances).values(dataset_sha256="f" * 64))
        return real(connection, *args, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(arrivals, "close_arrival", close)
    assert launched(db, layout).job is not None


def test_content_in_other_bytes_is_known_again_without_a_digest_in_the_row(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    ds = ct_slice()
    road.send(ds, tmp_path)
    road.settle()
    data = bytes_of(ds, tmp_path)
    # The same name with other padding: other bytes, one content.
    assert b"Seeded^Name " in data
    other = data.replace(b"Seeded^Name ", b"Seeded^Name\0")
    road.send(ds, tmp_path, replace(CT1, association_id="a2"), data=other)
    road.settle()
    assert quarantine.entries(layout) == []
    assert road.tallies["a2"].conflicts == 0


def test_a_replacement_succeeds_though_the_older_digest_is_filled_in_meanwhile(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    road.rules = replace(ROOMY, on_conflict="replace")
    ds = ct_slice()
    road.send(ds, tmp_path)
    road.settle()
    kept = instance(db, ds)
    fill_missing(db, layout)
    with db.read() as connection:
        read = catalog.find_instance(connection, ds.SOPInstanceUID)
    assert read is not None and read.dataset_sha256 and not kept.dataset_sha256
    with db.write() as connection:
        assert catalog.replace_content(
            connection, kept, header_of(road, ds, tmp_path), path="studies/v2.dcm", size_bytes=1,
            dataset_sha256="a", now=NOW,
        )  # fmt: skip


def header_of(road: Road, ds: Dataset, folder: Path):  # type: ignore[no-untyped-def]
    from appliance.dicom.header import read_header

    return read_header(bytes_of(ds, folder), "1.2.840.10008.1.2.1")


def test_index_check_fills_them_in_and_compares_only_what_was_known(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    ds = ct_slice()
    road.send(ds, tmp_path)
    road.settle()
    with db.read() as connection:
        assert list(file_check.instance_digests(connection)) == []
    fill_missing(db, layout)
    with db.read() as connection:
        found = list(file_check.instance_digests(connection))
    assert found == [(instance(db, ds).path, sha_of(ds, tmp_path))]


def test_an_erasure_takes_both_names_of_what_has_no_row_yet(
    db: Database, layout: Layout, tmp_path: Path
) -> None:
    road = Road(db, layout, is_written=False)
    ds = ct_slice()
    road.send(ds, tmp_path)
    road.close()  # without a row: a dead process's
    (path,) = waiting(layout)
    assert path.name.endswith(".part")
    matcher = Matcher(Subject("patient", ds.PatientID), {}, set())
    assert leftovers.remove_from_incoming(layout, matcher) == 1
    assert (stored(layout), waiting(layout)) == ([], [])
