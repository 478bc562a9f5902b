"""What a stream is granted is said as it is where it runs."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.streams.catalog import Stream, read_stream
from appliance.streams.grants import grants


def stream(tmp_path: Path, **more: object) -> Stream:
    info = {"AETitle": "ONE", "image": "a/b:1", "command": ["run"], **more}
    (tmp_path / "info.json").write_text(json.dumps(info))
    return read_stream(tmp_path)


def test_a_container_of_our_contract_is_granted_nothing(tmp_path: Path) -> None:
    assert grants(stream(tmp_path, trusted=True), "container", is_confined=True) == ()


def test_a_process_of_a_worker_that_is_root_does_not_read_the_store(tmp_path: Path) -> None:
    one = stream(tmp_path, trusted=True)
    [confined] = grants(one, "process", is_confined=True)
    assert "user nobody" in confined and "is hidden" in confined
    [free] = grants(one, "process", is_confined=False)
    assert "node's own user" in free and "read everything that the node keeps" in free


def test_one_that_nobody_runs_yet_may_become_a_process_only_when_it_is_trusted(
    tmp_path: Path,
) -> None:
    assert grants(stream(tmp_path), "", is_confined=False) == ()
    [maybe] = grants(stream(tmp_path, trusted=True), "", is_confined=False)
    assert maybe.startswith("It may be run as a plain process")
    (tmp_path / "work.sh").write_text("")
    host = stream(tmp_path, image="", command=[])
    assert grants(host, "", is_confined=False) == (maybe,)


def test_every_key_that_widens_what_a_stream_may_do_is_named(tmp_path: Path) -> None:
    keys = {"network": True, "changes_patient": True, "memory": True}
    found = grants(stream(tmp_path, command=[], **keys), "container", is_confined=True)
    root, network, patient, memory = found
    assert "as root inside its container" in root and "network" in network
    assert "another patient" in patient and "/memory" in memory


def test_a_stream_whose_info_cannot_be_read_is_granted_nothing(tmp_path: Path) -> None:
    (tmp_path / "info.json").write_text("{")
    assert grants(read_stream(tmp_path), "", is_confined=False) == ()
