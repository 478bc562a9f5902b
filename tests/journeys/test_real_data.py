"""Real studies: the montage is valid, and a PACS that holds the study gains one series."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from tests.journeys.conftest import NodeMaker, violations
from tests.journeys.test_main_road import errors_of
from tests.kit import orthanc, peers
from tests.kit.peers import Pacs


@pytest.mark.parametrize("name", ["ct-head", "ct-abdomen", "mr-t1"])
def test_a_montage_of_a_real_study_is_valid(
    make_node: NodeMaker, pacs: Pacs, real_data: Path, name: str
) -> None:
    node = make_node(streams=("montage",))
    node.route_all_to(pacs)
    files = sorted((real_data / name).glob("*.dcm"))
    report = node.send(files, "MONTAGE", "CT1", "-R")
    assert len(report.acknowledged) == len(files), report.text[-2000:]
    node.wait_for_jobs(1, "succeeded", seconds=120)
    node.wait_for_deliveries(1, "delivered")
    [arrived] = pacs.files()
    assert errors_of(arrived) == []
    assert violations(node, {"MONTAGE": [report]}, pacs) == []


def test_orthanc_that_holds_the_study_gains_one_series_and_every_reference_resolves(
    make_node: NodeMaker, tmp_path: Path, real_data: Path
) -> None:
    files = sorted((real_data / "ct-head").glob("*.dcm"))
    node = make_node(streams=("montage",))
    with orthanc.running(tmp_path / "orthanc") as pacs:
        peers.storescu(files, pacs.port, pacs.ae_title)
        assert (pacs.count("patients"), pacs.count("studies"), pacs.count("series")) == (1, 1, 1)
        target = {"ae_title": pacs.ae_title, "host": "127.0.0.1", "port": pacs.port}
        node.route({"destinations": {"pacs": target}, "rules": [{"name": "all", "to": ["pacs"]}]})
        node.send(files, "MONTAGE")
        node.wait_for_jobs(1, "succeeded", seconds=120)
        node.wait_for_deliveries(1, "delivered")
        assert (pacs.count("patients"), pacs.count("studies"), pacs.count("series")) == (1, 1, 2)
        held = {pacs.get(f"/instances/{one}/tags?simplify")["SOPInstanceUID"]
                for one in pacs.get("/instances")}  # fmt: skip
    with node.db.read() as connection:
        from appliance.index import catalog

        [result] = catalog.results_of(connection, node.jobs()[0].id)
    ds = pydicom.dcmread(node.layout.root / result.path)
    sources = {item.ReferencedSOPInstanceUID for item in ds.SourceImageSequence}
    referenced = {
        item.ReferencedSOPInstanceUID
        for series in ds.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert sources == referenced
    assert len(sources) == len(files)
    assert sources | {result.sop_instance_uid} == held
