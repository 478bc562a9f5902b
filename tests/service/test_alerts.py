"""Alerts from their cause to whoever is told: the housekeeper as a process, and the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance import settings_file
from appliance.disk.layout import Layout
from appliance.index import alerts, attempts, database, events, jobs, migrate
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.settings import Settings
from tests.kit import listeners
from tests.kit.listeners import Hook
from tests.kit.waiting import wait_for
from tests.unit.index.test_moves_of_a_job import new_job

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listeners.hook() as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path, hook: Hook) -> Settings:
    (tmp_path / "config").mkdir()
    facts = {
        "receiver": {"reserve_gb": 0, "reserve_percent": 0},
        "housekeeper": {"beat_seconds": 1},
        "alerts": {
            "webhook_url": hook.url, "webhook_token_file": "token", "clock": False,
            "certificates": ["tls.pem"],
        },
    }  # fmt: skip
    (tmp_path / "config" / "brookbox.yaml").write_text(yaml.safe_dump(facts))
    (tmp_path / "token").write_text("secret\n")
    write_certificate(tmp_path / "tls.pem", timedelta(days=90))
    made = settings_file.load(None, tmp_path, {})
    Layout(made.data_root).make()
    return made


@pytest.fixture
def db(settings: Settings) -> Iterator[Database]:
    db = database.connect(settings)
    migrate.migrate(db)
    yield db
    db.close()


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BROOKBOX_")}
    return {**kept, "PYTHONPATH": str(CHECKOUT)}


def cli(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance.cli", *words],
        cwd=settings.home, env=environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.fixture
def housekeeper(settings: Settings, db: Database) -> Iterator[subprocess.Popen[bytes]]:
    with log_of(settings).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance.cli", "housekeeper"],
            cwd=settings.home, env=environment(), stdout=log, stderr=log,
        )  # fmt: skip
    yield process
    process.kill()
    process.wait()


def log_of(settings: Settings) -> Path:
    return Layout(settings.data_root).logs / "housekeeper.log"


def write_certificate(file: Path, lasts: timedelta) -> None:
    """Write a certificate of its own issuer, in PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "brookbox.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=365))
        .not_valid_after(now + lasts).sign(key, hashes.SHA256())
    )  # fmt: skip
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def run_job(db: Database, outcome: str, number: int) -> None:
    now = datetime.now(UTC)
    with db.write() as connection:
        jobs.create(connection, new_job(study_uid=f"1.{number}"), now)
    job = attempts.claim_next(
        db, "ECHO", lanes=1, worker="h/1/1", lease=timedelta(hours=1), now=now
    )
    assert job is not None
    with db.write() as connection:
        attempts.finish(connection, job, Finish(outcome, reason="It broke."), now)


def open_kinds(db: Database) -> set[tuple[str, str]]:
    with db.read() as connection:
        return {(one.kind, one.subject) for one in alerts.open_alerts(connection)}


def lines(settings: Settings, phrase: str) -> list[dict[str, Any]]:
    said = [json.loads(line) for line in log_of(settings).read_text().splitlines()]
    return [one for one in said if one["event"] == phrase]


def test_a_failing_stream_is_told_everywhere_once_and_ends_when_it_works_again(
    settings: Settings, db: Database, hook: Hook, housekeeper: subprocess.Popen[bytes]
) -> None:
    for number in range(3):
        run_job(db, "failed", number)
    wait_for(lambda: hook.posted, "the webhook is told", 60)
    [posted] = hook.posted
    assert (posted["kind"], posted["subject"], posted["state"]) == ("stream", "ECHO", "open")
    assert posted["sentence"] == "3 jobs of the stream ECHO failed in a row."
    assert hook.headers[0]["Authorization"] == "Bearer secret"
    [logged] = lines(settings, "alert")
    assert logged["level"] == "error" and logged["remedy"] == "brookbox why ECHO"
    with db.read() as connection:
        assert [one.who for one in events.latest(connection, 9, kind="alert")] == ["housekeeper"]
    shown = cli(settings, "alerts")
    assert "3 jobs of the stream ECHO failed" in shown.stdout and shown.returncode == 0
    run_job(db, "success", 8)
    wait_for(lambda: open_kinds(db) == set(), "it is over", 60)
    for number in range(10, 13):
        run_job(db, "failed", number)
    wait_for(lambda: open_kinds(db) == {("stream", "ECHO")}, "it fails again", 60)
    wait_for(lambda: lines(settings, "alert ended"), "its end is logged")
    assert len(lines(settings, "alert")) == 1 and len(hook.posted) == 1, "it was told twice"


def test_a_certificate_that_ends_soon_and_one_that_is_gone_are_told(
    settings: Settings, db: Database, hook: Hook, housekeeper: subprocess.Popen[bytes]
) -> None:
    write_certificate(settings.home / "tls.pem", timedelta(days=10))
    wait_for(lambda: open_kinds(db) == {("certificate", "tls.pem")}, "it ends soon", 60)
    wait_for(lambda: hook.posted, "the webhook is told")
    assert "expires on" in hook.posted[0]["sentence"]
    (settings.home / "tls.pem").unlink()

    def says() -> str:
        with db.read() as connection:
            return " ".join(one.sentence for one in alerts.open_alerts(connection))

    wait_for(lambda: "cannot be read: No such file" in says(), "it is gone", 60)
    write_certificate(settings.home / "tls.pem", timedelta(days=365))
    wait_for(lambda: open_kinds(db) == set(), "a new one is in its place", 60)


def test_the_command_tries_each_way(settings: Settings, db: Database, hook: Hook) -> None:
    done = cli(settings, "alerts", "test")
    assert (done.returncode, done.stdout) == (0, "webhook: taken\n"), done.stderr
    assert hook.posted[0]["state"] == "test"
    hook.answers = 500
    done = cli(settings, "--json", "alerts", "test")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"webhook": "127.0.0.1 answered 500"}
    file = settings.home / "config" / "brookbox.yaml"
    file.write_text("alerts: {webhook_url: 'ftp://x'}\n")
    done = cli(settings, "alerts", "test")
    assert done.returncode == 1 and "must be an address as https://host/path" in done.stderr
    file.write_text("alerts: {mail_host: mail.example}\n")
    assert "needs alerts.mail_from and alerts.mail_to" in cli(settings, "alerts").stderr
    file.write_text("")
    done = cli(settings, "alerts", "test")
    assert done.returncode == 1 and "try: set alerts.webhook_url" in done.stderr
    assert "Nothing is wrong" in cli(settings, "alerts").stdout


def test_the_week_is_summed_up(settings: Settings, db: Database) -> None:
    from appliance.index import samples

    assert "no numbers yet" in cli(settings, "status", "--week").stdout
    now = datetime.now(UTC)
    for minutes in (10, 5, 0):
        numbers = {"instances_received": 100.0 + minutes, "disk_free_bytes": 2e12}
        samples.add(db, numbers, now - timedelta(minutes=minutes))
    shown = " ".join(cli(settings, "status", "--week").stdout.split())
    assert "instances received 315 100 100 110" in shown
    assert "disk free bytes 2 TB 2 TB 2 TB" in shown
    found = json.loads(cli(settings, "--json", "status", "--week").stdout)["numbers"]
    assert [one["total"] for one in found] == [315.0, None]
