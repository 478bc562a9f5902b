"""A throw-away PostgreSQL cluster for the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.kit import require
from tests.kit.waiting import free_port, wait_for


def _binaries() -> Path:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    require.missing("PostgreSQL's server", "apt-get install postgresql")
    raise AssertionError


def _user() -> dict[str, object]:
    """Give subprocess's words for an unprivileged user: initdb refuses root."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


class Server:
    """A PostgreSQL of the test's own, to kill, to stop and to start again on its port."""

    def __init__(self) -> None:
        self._binaries = _binaries()
        self._words = _user()
        self._folder = Path(tempfile.mkdtemp(prefix="brookbox-pg-"))
        self._environment = {
            "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self._folder),
        }  # fmt: skip
        if self._words:
            os.chown(self._folder, int(str(self._words["user"])), int(str(self._words["group"])))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        db = str(self._folder / "db")
        self._run("initdb", "-D", db, "-U", "brookbox", "-A", "trust", "-E", "UTF8")

    @property
    def url(self) -> str:
        """The URL of its `postgres` database."""
        return f"postgresql+psycopg://brookbox@127.0.0.1:{self.port}/postgres"

    def start(self, max_connections: int = 200) -> Server:
        """Start it; after a kill it may have to wait until the last one's children are gone."""
        wait_for(lambda: self._starts(max_connections), "PostgreSQL accepts connections", 60)
        return self

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it; SIGINT ends its clients' connections, SIGKILL is a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def remove(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _starts(self, max_connections: int) -> bool:
        if self._process is None or self._process.poll() is not None:
            options = {
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": str(self._folder),
                "fsync": "off",
                "max_connections": str(max_connections),
            }
            chosen = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
            self._process = subprocess.Popen(
                [
                    str(self._binaries / "postgres"), "-D", str(self._folder / "db"),
                    "-p", str(self.port), *chosen,
                ],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=self._environment, cwd=self._folder,
                **self._words,  # type: ignore[call-overload]
            )  # fmt: skip
        return self._process.poll() is None and self._answers()

    def _answers(self) -> bool:
        # It listens before it is ready to be asked.
        try:
            psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [str(self._binaries / program), *words],
            check=True, capture_output=True, env=self._environment, cwd=self._folder,
            **self._words,  # type: ignore[call-overload]
        )  # fmt: skip


@contextmanager
def cluster() -> Iterator[str]:
    """Lend the URL of an empty server's `postgres` database."""
    server = Server()
    try:
        yield server.start().url
    finally:
        # SIGTERM would wait for clients that are still there.
        server.remove()
