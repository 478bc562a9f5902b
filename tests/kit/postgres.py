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

from tests.kit import require
from tests.kit.waiting import free_port, is_listening, wait_for


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


@contextmanager
def cluster() -> Iterator[str]:
    """Lend the URL of an empty server's `postgres` database."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="brookbox-pg-"))
    words = _user()
    if words:
        os.chown(folder, int(str(words["user"])), int(str(words["group"])))
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    subprocess.run(
        [binaries / "initdb", "-D", folder / "db", "-U", "brookbox", "-A", "trust", "-E", "UTF8"],
        check=True,
        capture_output=True,
        env=environment,
        cwd=folder,
        **words,  # type: ignore[call-overload]
    )
    server = subprocess.Popen(
        [
            str(binaries / "postgres"),
            "-D",
            str(folder / "db"),
            "-p",
            str(port),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"unix_socket_directories={folder}",
            "-c",
            "fsync=off",
            "-c",
            "max_connections=200",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=folder,
        **words,  # type: ignore[call-overload]
    )
    try:
        wait_for(lambda: is_listening(port), "PostgreSQL accepts connections")
        yield f"postgresql+psycopg://brookbox@127.0.0.1:{port}/postgres"
    finally:
        # SIGTERM would wait for clients that are still there.
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
