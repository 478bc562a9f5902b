"""What status and doctor see: streams that are gone, a disk that takes no studies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.cli.main import main
from appliance.disk.layout import Layout
from appliance.health import node_checks
from appliance.health.overview import overview
from appliance.index import database, migrate
from appliance.index.database import Database
from appliance.settings import Queue, Receiver, Settings
from appliance.streams import served
from tests.kit.waiting import free_port
from tests.unit.index.test_moves_of_a_job import claim, create, new_job


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A node that is stopped and has no stream ECHO."""
    (tmp_path / "streams").mkdir()
    nobody = Queue(servers=(f"127.0.0.1:{free_port()}",))
    return Settings(home=tmp_path, queue=nobody, receiver=Receiver(reserve_gb=0, reserve_percent=0))


@pytest.fixture
def index(settings: Settings) -> Iterator[Database]:
    db = database.connect(settings)
    migrate.migrate(db)
    yield db
    db.close()


def test_jobs_of_a_stream_that_is_gone_are_seen(settings: Settings, index: Database) -> None:
    for study in ("1.1", "1.2", "1.3"):
        create(index, new_job(study))
    claim(index)
    [row] = overview(settings, index).streams
    assert (row.ae_title, row.state, row.waiting, row.running) == ("ECHO", "gone", 2, 1)
    assert not row.can_run and "No stream has the AE title ECHO" in row.why
    assert "put its folder back into" in row.remedy and "cancel" in row.remedy
    [found] = node_checks.check_gone_streams(settings, index)
    assert (found.level, found.about) == ("warn", "stream ECHO")
    assert "2 studies wait and 1 study runs." in found.sentence


def test_a_stream_that_is_there_is_not_gone(settings: Settings, index: Database) -> None:
    create(index, new_job())
    folder = settings.streams_folder / "echo"
    folder.mkdir()
    (folder / "info.json").write_text('{"AETitle": "ECHO", "nonsense": 1}')
    [row] = overview(settings, index).streams
    assert (row.state, row.waiting) == ("broken", 1)
    assert list(node_checks.check_gone_streams(settings, index)) == []


def test_a_disk_that_takes_no_studies_is_told(settings: Settings, index: Database) -> None:
    assert overview(settings, index).refuses == ""
    full = replace(settings, receiver=Receiver(reserve_gb=10**6))
    view = overview(full, index)
    assert "new associations are refused (2,3,1)" in view.refuses and "1000 TB" in view.refuses
    assert "receiver.reserve_gb" in view.refuses_remedy


def test_status_says_that_the_disk_takes_no_studies(
    tmp_path: Path, index: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "brookbox.yaml").write_text("receiver: {reserve_gb: 1000000}\n")
    main(["--home", str(tmp_path), "status"])
    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("disk "))
    assert "associations are refused (2,3,1)" in lines[at + 1] and "make room" in lines[at + 2]
    main(["--home", str(tmp_path), "--json", "status"])
    assert "refused (2,3,1)" in json.loads(capsys.readouterr().out)["refuses"]


def test_a_copy_of_a_stream_says_who_serves_instead(settings: Settings, index: Database) -> None:
    create(index, new_job())
    for name in ("echo", "echo-copy"):
        folder = settings.streams_folder / name
        folder.mkdir()
        info = {"AETitle": "ECHO", "command": ["run"], "trusted": True}
        (folder / "info.json").write_text(json.dumps(info))
    Layout(settings.data_root).make()
    served.note(settings.data_root, ["echo"])
    good, copy = overview(settings, index).streams
    assert (good.folder, good.state, good.waiting) == ("echo", "waits", 1)
    assert (copy.state, copy.waiting) == ("broken", 0), "the job is the other's"
    assert copy.why == "This copy does not serve; the folder echo does."
    assert copy.remedy.startswith("give it an AETitle of its own")


def test_a_stopped_gearmand_is_told_in_plain_words(settings: Settings, index: Database) -> None:
    [server] = settings.queue.servers
    told = overview(settings, index).gearmand
    assert told == f"gearmand at {server} does not answer: no connection can be made"
