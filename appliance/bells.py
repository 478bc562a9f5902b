"""Bells between processes of one machine: a datagram that says "look at the index now".

A bell carries nothing.  A lost or doubled ring does no harm: every listener also
looks by itself now and then.  The socket stands in `run/<name>.bell`.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from types import TracebackType


class Bell:
    """The listener's side: one process owns it and waits on it."""

    def __init__(self, run_folder: Path, name: str) -> None:
        run_folder.mkdir(parents=True, exist_ok=True)
        self._path = run_folder / f"{name}.bell"
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with _short_path(self._path) as address:
            self._socket.bind(address)
        self._path.chmod(0o600)
        self._inode = self._path.stat().st_ino

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody rings, at most so long; True when it rang."""
        self._socket.settimeout(max(seconds, 0.001))
        try:
            self._socket.recv(16)
        except TimeoutError:
            return False
        except InterruptedError:
            return True
        self._drain()
        return True

    def ring(self) -> None:
        """Wake the owner itself, for example from a signal handler."""
        ring(self._path.parent, self._path.stem)

    def close(self) -> None:
        """Stop listening; the socket of one that was started after us stays."""
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        self._socket.close()

    def _drain(self) -> None:
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(16):
                pass


def ring(run_folder: Path, name: str) -> None:
    """Ring, and never wait or fail: nobody may be listening."""
    path = run_folder / f"{name}.bell"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        with _short_path(path) as address:
            sender.sendto(b"!", address)


class _short_path:
    """Lend an address of under 108 bytes, the kernel's limit, for a path of any length."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = -1

    def __enter__(self) -> str:
        self._folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._folder)
