"""A node with a day's work in it, and clients that ask its pages."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from appliance.index import arrivals, attempts
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.settings import Housekeeper, Receiver, Settings
from tests.kit import indexes
from tests.web.day import HOSTILE_NAME, Day
from web.app import make_app
from web.service import make_server, stop_server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose disk never counts as full, whatever this machine's does."""
    return Settings(
        home=tmp_path,
        receiver=Receiver(reserve_gb=0, reserve_percent=0),
        housekeeper=Housekeeper(high_percent=99),
    )


@pytest.fixture
def web_db(settings: Settings) -> Iterator[Database]:
    """A migrated, empty index."""
    db = indexes.migrated(settings)
    yield db
    db.close()


@pytest.fixture
def day(settings: Settings, web_db: Database) -> Day:
    """An empty node."""
    write_stream(settings.streams_folder, "montage", "MONTAGE", "Montage")
    write_stream(settings.streams_folder, "echo", "ECHO", "Echo")
    return Day(settings, web_db, datetime.now(UTC))


@pytest.fixture(scope="session")
def full_day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SimpleNamespace, int]:
    """A day's work, made once: its data folder, what is in it by name, how many studies."""
    settings = Settings(home=tmp_path_factory.mktemp("day"))
    db = indexes.migrated(settings)
    day = Day(settings, db, datetime.now(UTC))
    ids = fill(day)
    db.close()
    return settings.data_root, ids, day.made


@pytest.fixture
def ids(day: Day, full_day: tuple[Path, SimpleNamespace, int]) -> SimpleNamespace:
    """Jobs in every state and all that belongs to them, by name."""
    data, ids, day.made = full_day
    day.db.close()
    shutil.rmtree(day.settings.data_root)
    shutil.copytree(data, day.settings.data_root)
    beat(day, ids)
    return ids


@pytest.fixture
def app(day: Day) -> Flask:
    """The application of that node."""
    return make_app(day.settings, day.db)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser on the node's own machine."""
    return browser(app, "http://127.0.0.1:2813")


def browser(app: Flask, site: str, address: str = "127.0.0.1") -> FlaskClient:
    """A browser at this address that asks for this site."""

    class Browser(FlaskClient):
        def open(self, *args: Any, **more: Any) -> TestResponse:
            more.setdefault("base_url", site)
            return super().open(*args, **more)

    app.test_client_class = Browser
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = address
    return client


def write_stream(folder: Path, name: str, ae_title: str, title: str, **more: object) -> Path:
    """Write a good stream folder."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    info = {
        "name": title, "AETitle": ae_title, "version": "1.0.0", "license": "Apache-2.0",
        "description": f"{title} does what its name says, for CT and MR.", "enabled": 1,
        "image": f"brookbox/{name}:1.0.0", "command": ["python3", "run.py"], **more,
    }
    (folder / name / "info.json").write_text(json.dumps(info, indent=1))
    return folder / name


def fill(day: Day) -> SimpleNamespace:
    """Make jobs in every state and what belongs to them."""
    ids = SimpleNamespace()
    doe = day.study("Doe^Jane^Q", "P-1001", "CT Head", 24)
    ids.removed = day.succeeded(day.study("Old^Olga", "P-0007", "CT Thorax"), ae_title="ECHO")
    ids.succeeded = day.succeeded(doe)
    ids.delivered = day.delivery(ids.succeeded, "pacs", "delivered")
    ids.failed = day.failed(day.study("Roe^Richard", "P-1002", "CT Abdomen", 6))
    ids.hostile = day.failed(day.study(HOSTILE_NAME, "<b>1</b>", "<img src=x onerror=alert(1)>"))
    partly = day.study("Poe^Edgar", "P-1003", "MR Brain")
    job = day.running(day.queued(partly, "ECHO"), ago=30)
    end = Finish("partial", message="1 of 2 series could not be read.", result_count=2)
    ids.partial = day.ended(job, end, results=2)
    ids.gave_up = day.delivery(ids.partial, "research-pacs", "gave_up")
    cut = day.study("Chopped^Charles", "P-1004", "CT Neck")
    job = day.running(day.queued(cut, incomplete=True), ago=30)
    ids.held = day.ended(job, Finish("success", result_count=1, is_held=True), results=1)
    ids.cancelled = day.queued(day.study("Coe^Carla", "P-1005", "CT Spine"))
    job = day.running(ids.cancelled)
    with day.db.write() as connection:
        attempts.finish_cancelled(connection, job, day.now)
    ids.running = day.queued(day.study("Moe^Martha", "P-1006", "CT Head", 51))
    job = day.running(ids.running)
    attempts.note_run(
        day.db, job, progress_done=12, progress_of=51, progress_step="windowing slices"
    )
    ids.queued = day.queued(day.study("Loe^Louis", "P-1007", "CT Head"))
    ids.arrival = day.arriving(day.study("Zoe^Zelda", "P-1008", "CT Head", 23))
    ids.association = f"assoc{day.made:08d}"
    ids.identical = day.identical(doe, ids.succeeded)
    beat(day, ids)
    day.refused("montage", "MONTAGE")
    output = day.layout.job(ids.succeeded).output
    (output / "volumes").mkdir()
    (output / "volumes" / "lesion.csv").write_text("slice,ml\n1,2.5\n")
    return ids


@pytest.fixture
def served(app: Flask, settings: Settings) -> Iterator[str]:
    """The same application behind a real waitress; its address."""
    local = replace(settings, web=replace(settings.web, port=0))
    server = make_server(app, local)

    def serve() -> None:
        # The loop may be waiting on a socket of a browser when `stop_server` closes it.
        with contextlib.suppress(OSError):
            server.run()

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    app.extensions["brookbox"].is_stopping.set()
    stop_server(server)


def beat(day: Day, ids: SimpleNamespace) -> None:
    """Let every service, every lane and the open association beat now."""
    arrivals.beat_associations(day.db, [ids.association], day.now)
    day.services("receiver", "dispatcher", "worker", "router", "housekeeper")
    day.lane("MONTAGE", job=ids.running)
    why = "The image brookbox/echo:1.0.0 is not on this machine."
    day.lane("ECHO", why, "brookbox streams build echo")
