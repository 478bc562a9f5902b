"""`brookbox quarantine` without a node that runs: an index and a folder are enough."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.errors import InstanceRefused
from appliance.index import catalog, database, migrate
from appliance.intake.take import Intake
from tests.kit.dicom import ct_slice
from tests.kit.node import Node
from tests.unit.intake.given import CT1, LITTLE, NOW, bytes_of


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A folder with settings and an index; nothing runs there."""
    node = Node(tmp_path / "home", {"worker": {"docker": "never"}})
    node.home.mkdir()
    node.write_settings()
    Layout(node.loaded.data_root).make()
    db = database.connect(node.loaded)
    migrate.migrate(db)
    db.close()
    return node


def take(node: Node, folder: Path, *several: Dataset) -> list[quarantine.Entry]:
    """Take instances in as a receiver does; what is in quarantine then, newest first."""
    intake = Intake(node.db, node.layout, "BROOKBOX")
    for ds in several:
        try:
            intake.keep(
                bytes_of(ds, folder),
                sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID,
                transfer_syntax_uid=LITTLE,
                sender=replace(CT1, called_ae_title="BROOKBOX"),
                level=None,
                now=NOW,
            )
        except InstanceRefused:
            continue
    intake.close()
    return quarantine.entries(node.layout)


def test_a_held_one_is_compared_fetched_and_taken_in(node: Node, tmp_path: Path) -> None:
    first = ct_slice(patient_id="P-1", patient_name="Doe^Jane")
    other = ct_slice(
        2, patient_id="P-2", patient_name="Roe^Ann", study_uid=first.StudyInstanceUID
    )
    [held] = take(node, tmp_path, first, other)
    assert [one["id"] for one in node.cli_json("quarantine", "list", "--kind", "held")] == [held.id]
    assert node.cli_json("quarantine", "list", "--kind", "refused") == []
    shown = node.cli("quarantine", "show", held.id).stdout
    assert "kept here" in shown and "Doe^Jane" in shown and "P-2" in shown
    got = tmp_path / "got.dcm"
    assert node.cli_json("quarantine", "get", held.id, str(got))["id"] == held.id
    assert got.read_bytes() == quarantine.file_of(node.layout, held.id).read_bytes()
    again = node.cli("quarantine", "get", held.id, str(got))
    assert again.returncode == 1 and "File exists" in again.stderr
    stays = node.cli("quarantine", "retry", held.id)
    assert stays.returncode == 1 and stays.stdout.startswith(f"stays {held.id}: Its Study")
    asked = node.cli("quarantine", "take-in", held.id)
    assert asked.returncode == 2 and "say --yes" in asked.stderr
    [taken] = node.cli_json("quarantine", "take-in", "--yes", held.id)
    assert taken["is_kept"] and taken["sentence"] == "It is kept now."
    with node.db.read() as connection:
        assert catalog.find_instance(connection, other.SOPInstanceUID) is not None
    who = [one["who"] for one in node.cli_json("events", "--kind", "quarantined file kept")]
    assert who and who[0].endswith("(command line)")
    assert "Quarantine is empty" in node.cli("quarantine", "retry", "--all").stdout


def test_what_is_sent_again_is_counted_in_the_list(node: Node, tmp_path: Path) -> None:
    first = ct_slice(patient_id="P-1")
    other = ct_slice(2, patient_id="P-2", study_uid=first.StudyInstanceUID)
    [held] = take(node, tmp_path, first, other, other)
    assert held.times == 2
    listed = node.cli("quarantine", "list").stdout.splitlines()
    assert listed[0].split()[:4] == ["id", "when", "times", "last"]
    assert [line.split()[0] for line in listed[1:]] == [held.id]
    shown = node.cli("quarantine", "show", held.id).stdout
    assert re.search(r"^it came +2 times$", shown, re.M) and "last came" in shown


def test_all_are_tried_again_under_the_settings_of_today(node: Node, tmp_path: Path) -> None:
    lacking, broken = ct_slice(), ct_slice()
    del lacking.SeriesInstanceUID
    broken.SOPInstanceUID = "1.2.3.4"
    take(node, tmp_path, lacking)
    intake = Intake(node.db, node.layout, "BROOKBOX")
    with pytest.raises(InstanceRefused):
        intake.keep(
            bytes_of(broken, tmp_path), sop_class_uid=broken.SOPClassUID, sop_instance_uid="1.2.9",
            transfer_syntax_uid=LITTLE, sender=CT1, level=None, now=NOW,
        )  # fmt: skip
    intake.close()
    node.settings["receiver"] = {"coerce": True}
    node.write_settings()
    done = node.cli("--json", "quarantine", "retry", "--all")
    assert done.returncode == 1, "one of them stays"
    tried = json.loads(done.stdout)
    assert [one["is_kept"] for one in tried] == [True, False]
    [left] = quarantine.entries(node.layout)
    assert left.tries == 1 and "is not the one of the request" in left.tried
    missing = node.cli("quarantine", "retry", "0" * 23)
    assert missing.returncode == 1 and "quarantine has no" in missing.stderr
    assert node.cli("quarantine", "retry").returncode == 2


def test_a_conflict_is_shown_with_the_elements_that_differ(node: Node, tmp_path: Path) -> None:
    first = ct_slice()
    second = ct_slice()
    second.SOPInstanceUID = first.SOPInstanceUID
    second.StudyInstanceUID = first.StudyInstanceUID
    second.SeriesInstanceUID = first.SeriesInstanceUID
    second.FrameOfReferenceUID = first.FrameOfReferenceUID
    for number in range(25):
        second.add_new(0x00291001 + number, "LO", f"value {number}")
    [entry] = take(node, tmp_path, first, second)
    shown = node.cli("quarantine", "show", entry.id).stdout
    assert "element that differs" in shown and "and 5 more" in shown
    assert re.search(r"\(0029,1001\) +value 0 *\n", shown)
    found = node.cli_json("quarantine", "show", entry.id)["elements"]
    assert len(found["pairs"]) == 20 and found["more"] == 5
