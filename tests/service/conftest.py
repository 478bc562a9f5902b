"""A receiver in a folder of its own, and a bench for dispatcher and worker with a gearmand."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
import yaml

from appliance import settings_file
from appliance.disk.layout import Layout
from appliance.index import arrivals, catalog, events, schema
from appliance.index.database import Database
from appliance.settings import Settings
from tests.kit import alone, indexes, peers
from tests.kit.bench import Bench
from tests.kit.gearmand import Gearmand
from tests.kit.waiting import free_port, is_listening, rows_follow, wait_for


@dataclass
class Receiver:
    """One receiver process and its children; `settings` are laid over quick ones."""

    home: Path
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    prelude: str = ""  # Python that runs in it first, to break something
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.port = free_port()
        self.log = self.home / "receiver.log"
        (self.home / "config").mkdir(parents=True, exist_ok=True)
        (self.home / "streams").mkdir()
        self.write_settings()
        self.add_stream("ECHO")
        self.db: Database = indexes.migrated(self.loaded)

    def write_settings(self) -> None:
        merged: dict[str, dict[str, Any]] = {
            "node": {"log_level": "debug"},
            "receiver": {
                "address": "127.0.0.1", "port": self.port, "processes": 2,
                "reserve_gb": 0.05, "reserve_percent": 0,
            },
        }  # fmt: skip
        for section, values in self.settings.items():
            merged.setdefault(section, {}).update(values)
        self.config.write_text(yaml.safe_dump(merged))

    @property
    def config(self) -> Path:
        return self.home / "config" / "brookbox.yaml"

    @property
    def loaded(self) -> Settings:
        return settings_file.load(self.config, self.home, {})

    @property
    def layout(self) -> Layout:
        return Layout(self.loaded.data_root)

    def add_stream(self, ae_title: str, **info: Any) -> Path:
        folder = self.home / "streams" / f"s{len(list((self.home / 'streams').iterdir()))}"
        folder.mkdir()
        facts = {"AETitle": ae_title, "command": ["true"], "trusted": True, **info}
        (folder / "info.json").write_text(json.dumps(facts))
        return folder

    def start(self, ready: bool = True) -> Receiver:
        wait_for(self._is_settled, "the streams folder has settled")
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                alone.command("receiver", self.home, self.config, self.prelude),
                cwd=self.home,
                stdout=out,
                stderr=out,
                env=alone.environment(),
            )
        if ready:
            wait_for(self._answers, "the receiver answers", 60)
        return self

    def _answers(self) -> bool:
        # A question to a port where nobody listens yet costs a process each time.
        return is_listening(self.port) and peers.echoscu(self.port, "ECHO")

    def _is_settled(self) -> bool:
        newest = max(path.stat().st_ctime for path in (self.home / "streams").rglob("*"))
        return time.time() - newest > 1.1

    def children(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children()

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def stop(self) -> int:
        assert self.process is not None
        family = [psutil.Process(self.process.pid), *self.children()] if self.is_alive() else []
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(45)
        _, left = psutil.wait_procs(family, timeout=5)
        for one in left:
            one.kill()
        self.process = None
        assert not left
        return code

    def kill(self) -> None:
        """kill -9 of all of it."""
        assert self.process is not None
        for one in [*self.children(), psutil.Process(self.process.pid)]:
            one.kill()
        self.process.wait()
        self.process = None

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    # -- what it knows ------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until what was answered has its rows, which follow within a tenth of a second.

        Not longer than for a moment: while the index is away, or what answered is dead, they
        do not follow.
        """
        told = -1
        with contextlib.suppress(AssertionError):
            # The log, too, is a moment behind what it tells of: it has to say nothing new.
            while told != (told := self._accepted()):
                wait_for(lambda: not self._is_behind(), "rows follow their answers", 3)
                time.sleep(0.03)

    def _is_behind(self) -> bool:
        if rows_follow(self.layout.incoming):
            return True
        with self.db.read() as connection:
            query = sa.select(sa.func.count()).select_from(schema.associations)
            return int(connection.scalar(query) or 0) < self._accepted()

    def _accepted(self) -> int:
        return self.text().count('"event": "association accepted"')

    def rows(self, table: sa.Table) -> list[Any]:
        self.settle()
        with self.db.read() as connection:
            return list(connection.execute(sa.select(table)).all())

    def instance(self, sop_instance_uid: str) -> catalog.Instance | None:
        self.settle()
        with self.db.read() as connection:
            return catalog.find_instance(connection, sop_instance_uid)

    def instances(self) -> list[Any]:
        return self.rows(schema.instances)

    def associations(self) -> list[Any]:
        return self.rows(schema.associations)

    def digested(self) -> list[Any]:
        """Give the instances once each has its digest, which follows when nobody sends."""
        return wait_for(
            lambda: all(row.dataset_sha256 for row in self.instances()) and self.instances(),
            "each instance has its digest",
            60,
        )

    def open_arrivals(self) -> list[arrivals.OpenArrival]:
        self.settle()
        return arrivals.open_arrivals(self.db, datetime(2000, 1, 1, tzinfo=UTC))

    def events(self, kind: str) -> list[events.Event]:
        self.settle()
        with self.db.read() as connection:
            return events.latest(connection, 1000, kind=kind)

    def stored(self) -> list[Path]:
        return sorted(path for path in self.layout.studies.rglob("*") if path.is_file())

    def waiting(self) -> list[Path]:
        self.settle()
        return self._incoming()

    def _incoming(self) -> list[Path]:
        return [path for path in self.layout.incoming.rglob("*") if path.is_file()]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver that was not started yet; whatever the test leaves running is ended."""
    one = Receiver(tmp_path / "node")
    yield one
    one.db.close()
    if one.is_alive():
        one.kill()
    tail = one.text()[-3000:] if one.log.exists() else ""
    assert "Traceback" not in tail, tail


@pytest.fixture
def gearmand() -> Iterator[Gearmand]:
    """A gearmand of the test's own."""
    one = Gearmand()
    yield one
    one.kill()


@pytest.fixture
def bench(tmp_path: Path, gearmand: Gearmand) -> Iterator[Bench]:
    """Processes of the node that the test starts one by one, on that gearmand."""
    one = Bench(tmp_path, gearmand.server)
    yield one
    one.stop()
