"""What `brookbox up` tells systemd, when a unit of Type=notify started it (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket


class ServiceManager:
    """Who is told how far the node is; without systemd nobody is.

    The variable is taken out of the environment: a stream, or a process of the node, has
    nothing to tell.
    """

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")

    def ready(self, status: str) -> None:
        """Say that the start is over, and how it stands; `systemctl start` waits for it."""
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that a stop has begun."""
        self._tell("STOPPING=1\nSTATUS=Stopping")

    def _tell(self, words: str) -> None:
        if not self._address:
            return
        # "@" stands for the NUL of an abstract address.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with (
            contextlib.suppress(OSError),  # a manager that does not hear is no reason to fail
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        ):
            sender.connect(address)
            sender.sendall(words.encode())
