"""Decode instances in a child process, so that no codec ever runs in the router's.

The child (`decoder`) is started when the first instance needs it and serves the whole
sending.  Each instance is decoded in a process of its own that it forks: with limits of
memory, time and file size, and without a way to open anything more.  What is decoded lies
in a file without a name on the data volume; whoever dies, nothing is left of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from appliance.disk import space
from appliance.errors import AssociationFailed
from appliance.router.data_set import DataSet
from appliance.settings import Settings

# How the sentence begins that tells of it, with which an instance's other words end.
WAS_DECODED = "It was decoded"

_DEADLINE_SECONDS = 900.0
_LOOK_SECONDS = 0.2
_LONGEST_ANSWER = 4096
# A data set of Pixel Data of defined length (PS3.5 7.1), and room for the rest of it.
_MOST_BYTES = (1 << 32) + (1 << 28)


class NotDecoded(Exception):
    """An instance that cannot be decoded; its text is a sentence that says why."""

    def __init__(self, sentence: str, *, is_for_now: bool = False) -> None:
        super().__init__(sentence)
        self.is_for_now = is_for_now


class Decoder:
    """Decodes one instance after the other; the child lives until `close`."""

    def __init__(self, settings: Settings, must_end: Callable[[], bool]) -> None:
        self._settings = settings
        self._must_end = must_end
        self._child: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def decode(
        self, source: DataSet, to_syntax: str, while_waiting: Callable[[], None]
    ) -> BinaryIO:
        """Give the data set as a file without File Meta, in an uncompressed transfer syntax.

        `while_waiting` is called several times a second.  NotDecoded when it cannot be
        decoded; AssociationFailed when the node must end meanwhile.
        """
        with contextlib.ExitStack() as unless_decoded:
            target = self._file()
            unless_decoded.callback(target.close)
            channel = self._channel or self._start()
            words = {
                "from": source.transfer_syntax_uid,
                "start": source.start,
                "to": to_syntax,
                "most_bytes": self._most_bytes(target),
            }
            files = [source.file, target.fileno()]
            try:
                socket.send_fds(channel, [json.dumps(words).encode()], files)
                answer = self._answer(channel, while_waiting)
            except OSError as error:
                self.close()
                why = f"The process that decodes it ended: {error.strerror or error}."
                raise NotDecoded(why, is_for_now=True) from error
            if answer:
                raise NotDecoded(str(answer["why"]), is_for_now=bool(answer.get("is_for_now")))
            unless_decoded.pop_all()
        return target

    @property
    def process_id(self) -> int | None:
        """Give the child's process id; None when there is no child."""
        return self._child.pid if self._child else None

    def close(self) -> None:
        """End the child and whatever it has started."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self._child = None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            # One thread each: what is decoded at once is for the router to say.
            alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "appliance.router.decoder", str(number)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(number,),
                env={**os.environ, **alone},
                start_new_session=True,
            )
        ours.settimeout(_LOOK_SECONDS)
        self._channel = ours
        return ours

    def _answer(
        self, channel: socket.socket, while_waiting: Callable[[], None]
    ) -> dict[str, str | bool]:
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while True:
            try:
                told = channel.recv(_LONGEST_ANSWER)
            except TimeoutError:
                while_waiting()
                self._check_time(deadline)
                continue
            if not told:
                raise ConnectionResetError(0, "its process ended")
            answer: dict[str, str | bool] = json.loads(told)
            return answer

    def _check_time(self, deadline: float) -> None:
        if self._must_end():
            self.close()
            raise AssociationFailed(
                "Decoding was stopped in the middle.", remedy="nothing: it goes on"
            )
        if time.monotonic() > deadline:
            self.close()
            raise NotDecoded(f"Decoding it took longer than {_DEADLINE_SECONDS:g} s.")

    def _file(self) -> BinaryIO:
        # A person who sends files may be another user, on a machine without a node.
        for folder in (self._settings.data_root / "run", None):
            with contextlib.suppress(OSError):
                return tempfile.TemporaryFile(dir=folder, buffering=0)
        raise NotDecoded("There is no place to decode it.", is_for_now=True)

    def _most_bytes(self, target: BinaryIO) -> int:
        """Say how much may be written: what reception and jobs need stays free."""
        rules = self._settings.receiver
        volume = space.measure(Path(f"/proc/self/fd/{target.fileno()}"))
        kept = space.reserve_bytes(volume, rules.reserve_gb, rules.reserve_percent) // 2
        return max(0, min(_MOST_BYTES, volume.free_bytes - kept))
