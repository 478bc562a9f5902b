"""A whole node in a folder of its own, started as a user starts it: `brookbox up`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import yaml

from appliance import settings_file
from appliance.disk.layout import Layout
from appliance.index import arrivals, database, deliveries, events, job_list, jobs, lanes
from appliance.index.database import Database
from appliance.index.deliveries import Delivery
from appliance.index.jobs import Job
from tests.kit import peers
from tests.kit.peers import SendReport
from tests.kit.waiting import free_port, is_listening, wait_for

CHECKOUT = Path(__file__).resolve().parents[2]
QUICK: dict[str, dict[str, Any]] = {
    "node": {"log_level": "debug"},
    "receiver": {"address": "127.0.0.1", "reserve_gb": 0.05, "reserve_percent": 0},
    "completeness": {
        "quiet_seconds": 1.0,
        "quiet_after_abort_seconds": 2.0,
        "idle_seconds": 3.0,
        "learn": False,
    },
    "queue": {"ring_again_seconds": 2},
    "jobs": {"retry_seconds": 1},
    "worker": {"lease_seconds": 6},
    "router": {"first_retry_seconds": 0.3, "longest_retry_minutes": 0.1},
    # Three beats without an answer restart a process: on a busy machine a start takes its time.
    "housekeeper": {"beat_seconds": 5, "sweep_seconds": 2},
}


@dataclass
class Node:
    """A node under test; `settings` are laid over QUICK."""

    home: Path
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    streams: tuple[str, ...] = ("echo", "montage")
    user: int | None = None
    process: subprocess.Popen[bytes] | None = None
    _db: Database | None = None
    _own_folders: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port, self.web_port, self.gearmand_port = free_port(), free_port(), free_port()
        self.out = self.home / "up.log"

    # -- life ---------------------------------------------------------------------------------

    def write_settings(self) -> None:
        """Write config/brookbox.yaml and the streams folder."""
        merged = {name: dict(values) for name, values in QUICK.items()}
        merged.setdefault("web", {})["port"] = self.web_port
        merged["receiver"]["port"] = self.port
        merged["queue"]["servers"] = [f"127.0.0.1:{self.gearmand_port}"]
        for section, values in self.settings.items():
            merged.setdefault(section, {}).update(values)
        config = self.home / "config"
        config.mkdir(parents=True, exist_ok=True)
        (config / "brookbox.yaml").write_text(yaml.safe_dump(merged))
        folder = self.home / "streams"
        if not folder.exists():
            folder.mkdir()
            for name in ("base", *self.streams):
                shutil.copytree(
                    CHECKOUT / "streams" / name,
                    folder / name,
                    ignore=shutil.ignore_patterns("__pycache__"),
                )
        if self.user is not None:
            for path in [self.home, *self.home.rglob("*")]:
                os.chown(path, self.user, self.user)

    def start(self, seconds: float = 60) -> Node:
        """Start it and wait until it receives and shows its page."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.write_settings()
        with self.out.open("ab") as out:
            self.process = subprocess.Popen(
                self.command("up"),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                cwd=self.home,
                env=self.environment(),
                start_new_session=True,
                **self._as_user(),  # type: ignore[call-overload]
            )
        try:
            wait_for(self.is_ready, "the node is ready", seconds)
        except AssertionError:
            tail = self.out.read_text("utf-8", "replace")[-4000:]
            self.stop()
            raise AssertionError(f"the node did not start:\n{tail}") from None
        return self

    def is_ready(self) -> bool:
        """Say whether it answers a C-ECHO and shows its page."""
        assert self.process is not None
        assert self.process.poll() is None, self.out.read_text("utf-8", "replace")[-4000:]
        if not (is_listening(self.port) and is_listening(self.web_port)):
            return False
        return peers.echoscu(self.port, "BROOKBOX")

    def stop(self) -> None:
        """Stop it as Ctrl-C does, and see that nothing of it is left."""
        if self.process is None:
            return
        family = self.family()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _gone, left = psutil.wait_procs(family, timeout=15)
        for one in left:
            one.kill()
        self.process = None
        if self._db is not None:
            self._db.close()
            self._db = None
        assert not left, f"left behind after the stop: {left}"

    def command(self, *words: str) -> list[str]:
        """Give the command line of `brookbox …` of this checkout; as there, no code is cwd's."""
        return [sys.executable, "-P", "-m", "appliance.cli", *words]

    def environment(self) -> dict[str, str]:
        """Give the node's environment: this checkout's code, no setting of the caller's."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("BROOKBOX_")}
        return {
            **kept, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1", **self._own_folders
        }  # fmt: skip

    def give_own_home(self, folder: Path) -> tuple[Path, ...]:
        """Give the node a HOME and a TMPDIR of its own, so that what it leaves there is seen."""
        for name in ("HOME", "TMPDIR"):
            (folder / name.lower()).mkdir(parents=True)
            self._own_folders[name] = str(folder / name.lower())
        return tuple(map(Path, self._own_folders.values()))

    def add_to_environment(self, **values: str) -> None:
        """Add variables to the node's environment, over what it would have."""
        self._own_folders.update(values)

    def cli(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `brookbox …` on this node."""
        return subprocess.run(
            self.command(*words),
            cwd=self.home,
            env=self.environment(),
            text=True,
            capture_output=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            **self._as_user(),  # type: ignore[call-overload]
        )

    def cli_json(self, *words: str) -> Any:
        """Run `brookbox --json …` and read what it says."""
        done = self.cli("--json", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def _as_user(self) -> dict[str, object]:
        if self.user is None:
            return {}
        groups = (
            [os.stat("/var/run/docker.sock").st_gid]
            if Path("/var/run/docker.sock").exists()
            else []
        )
        return {"user": self.user, "group": self.user, "extra_groups": groups}

    # -- its processes ------------------------------------------------------------------------

    def family(self) -> list[psutil.Process]:
        """List every process of the node, the wrapper first."""
        assert self.process is not None
        try:
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def processes(self, name: str) -> list[psutil.Process]:
        """List the processes of a program: receiver, worker, gearmand, supervisord, …"""
        found = []
        for one in self.family():
            try:
                words = one.cmdline()
            except psutil.Error:
                continue
            program = Path(words[0]).name if words else ""
            is_ours = "appliance.cli" in words and name in words
            if (
                program == name
                or is_ours
                or any(word.endswith((f"/{name}", f".{name}")) for word in words[:3])
            ):
                found.append(one)
        return found

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to every process of a program."""
        found = self.processes(name)
        assert found, f"no process {name} runs"
        for one in found:
            try:
                one.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    # -- what it knows ------------------------------------------------------------------------

    @property
    def loaded(self) -> settings_file.Settings:
        """Its settings, read as it reads them."""
        return settings_file.load(self.home / "config" / "brookbox.yaml", self.home, {})

    @property
    def layout(self) -> Layout:
        """Its folders."""
        return Layout(self.loaded.data_root)

    @property
    def db(self) -> Database:
        """Its index."""
        if self._db is None:
            self._db = database.connect(self.loaded)
        return self._db

    def jobs(self, ae_title: str = "") -> list[Job]:
        """List its jobs, oldest first."""
        with self.db.read() as connection:
            found = job_list.jobs_matching(connection, job_list.Filter(ae_title=ae_title), 10_000)
        return found[::-1]

    def job(self, job_id: int) -> Job:
        """Look one job up."""
        with self.db.read() as connection:
            return jobs.get(connection, job_id)

    def wait_for_jobs(
        self, count: int, *states: str, ae_title: str = "", seconds: float = 60
    ) -> list[Job]:
        """Wait until so many jobs are in one of these states (none named: ended)."""
        wanted = states or ("succeeded", "partial", "failed", "cancelled")

        def enough() -> list[Job]:
            found = [job for job in self.jobs(ae_title) if job.state in wanted]
            return found if len(found) >= count else []

        try:
            return wait_for(enough, f"{count} jobs {'/'.join(wanted)}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def deliveries(self, *states: str) -> list[Delivery]:
        """List its deliveries, oldest first."""
        with self.db.read() as connection:
            return deliveries.deliveries_in(connection, states, 10_000)[::-1]

    def wait_for_deliveries(self, count: int, *states: str, seconds: float = 60) -> list[Delivery]:
        """Wait until so many deliveries are in one of these states."""

        def enough() -> list[Delivery]:
            found = self.deliveries(*states)
            return found if len(found) >= count else []

        try:
            return wait_for(enough, f"{count} deliveries {'/'.join(states)}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def open_arrivals(self) -> list[arrivals.OpenArrival]:
        """List what is still coming in."""
        return arrivals.open_arrivals(self.db, datetime.min.replace(tzinfo=UTC, year=2000))

    def story(self) -> str:
        """Tell what happened, for a test that failed."""
        with self.db.read() as connection:
            told = [f"{event.kind}: {event.sentence}" for event in events.latest(connection, 30)]
        lines = [
            f"{job.id} {job.ae_title} {job.state} {job.wait_reason} {job.reason}"
            for job in self.jobs()
        ]
        lines += [f"delivery {d.id} {d.state} {d.message}" for d in self.deliveries()]
        lines += [f"open arrival {a}" for a in self.open_arrivals()]
        return "\n".join([*lines, *told, self.errors()])

    def errors(self) -> str:
        """Give the error lines of its logs."""
        found = []
        for path in sorted(self.layout.logs.glob("*.log*")):
            for line in path.read_text("utf-8", "replace").splitlines():
                if '"level": "error"' in line or "Traceback" in line:
                    found.append(f"{path.name}: {line[:1500]}")
        return "\n".join(found[-20:])

    # -- what is done to it -------------------------------------------------------------------

    def send(
        self, files: Sequence[Path], called: str, calling: str = "CT1", *options: str
    ) -> SendReport:
        """Send files with storescu in one association."""
        return peers.storescu(files, self.port, called, calling, options)

    def route(self, routing: dict[str, Any]) -> None:
        """Write routing.yaml, in one move."""
        part = self.home / "config" / "routing.yaml.part"
        part.write_text(yaml.safe_dump(routing, sort_keys=False))
        if self.user is not None:
            os.chown(part, self.user, self.user)
        part.rename(self.home / "config" / "routing.yaml")

    def route_all_to(self, pacs: peers.Pacs) -> None:
        """Send every result to one PACS."""
        self.route(
            {
                "destinations": {
                    "pacs": {"ae_title": pacs.ae_title, "host": "127.0.0.1", "port": pacs.port}
                },
                "rules": [{"name": "all", "to": ["pacs"]}],
            }
        )

    def get(self, path: str) -> Any:
        """Read JSON from its API."""
        url = f"http://127.0.0.1:{self.web_port}{path}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)

    def add_stream(self, ae_title: str, script: str, **info: Any) -> Path:
        """Drop a trusted stream in, whose run.py is this text; the folder moves in whole."""
        part = self.home / f"part-{ae_title}"
        part.mkdir(parents=True)
        facts = {
            "AETitle": ae_title,
            "name": ae_title,
            "version": "1",
            "enabled": 1,
            "trusted": True,
            "command": ["python3", "run.py"],
            "quiet_seconds": 1,
            **info,
        }
        (part / "info.json").write_text(json.dumps(facts, indent=1))
        (part / "run.py").write_text(script)
        folder = self.home / "streams" / ae_title.lower()
        if self.user is not None:
            for path in [part, *part.rglob("*")]:
                os.chown(path, self.user, self.user)
        folder.parent.mkdir(exist_ok=True)
        part.rename(folder)
        return folder

    def wait_for_stream(self, ae_title: str, seconds: float = 20) -> None:
        """Wait until a worker serves this stream."""

        def serves() -> bool:
            with self.db.read() as connection:
                found = lanes.lanes_since(connection, datetime.now(UTC) - timedelta(seconds=30))
            return any(lane.ae_title == ae_title and lane.is_open for lane in found)

        wait_for(serves, f"a lane serves {ae_title}", seconds)
        # Each receiving process looks at the streams folder for itself.
        wait_for(
            lambda: all(peers.echoscu(self.port, ae_title) for _ in range(6)),
            f"the receiver knows {ae_title}",
            seconds,
        )
