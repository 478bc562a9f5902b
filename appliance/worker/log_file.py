"""processing.log: what a run prints, line by line as it is printed, within a bound.

Over the limit the head and the newest lines stay, and between them one line says
how many bytes were left out.  The file never grows past the limit, not even while
the run goes on.  A full disk loses lines, never the run.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

_KEPT_AT_END = 10_000_000
_LONGEST_LINE = 64 * 1024
_STALE_SECONDS = 0.5
_REMEMBERED = 8 * 1024


class LogFile:
    """One run's log; several sources may write to it from several threads."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Open the log, after what an earlier attempt left in it."""
        self._most = most_bytes
        self._end = min(_KEPT_AT_END, most_bytes // 4)
        self._head = max(most_bytes - 2 * self._end - 200, 0)
        self._left_out = 0
        self._marker = 0  # length of the line that says what was left out
        self._held: dict[str, bytes] = {}
        self._held_since: dict[str, float] = {}
        self._remembered = b""
        self._lock = threading.Lock()
        # The folder may be a MagickBox stream's to write in: no link is followed.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o640)
        self._size = os.lseek(self._file, 0, os.SEEK_END)

    @property
    def tail(self) -> str:
        """The newest few kilobytes of what this run printed, for whoever explains its end."""
        with self._lock:
            return self._remembered.decode("utf-8", "replace")

    def write(self, source: str, chunk: bytes) -> None:
        """Add what one source (standard output or error) printed; whole lines go out at once."""
        with self._lock:
            text = self._held.get(source, b"") + chunk
            cut = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
            if len(text) - cut > _LONGEST_LINE:
                cut = len(text)
            if source not in self._held or cut:
                self._held_since[source] = time.monotonic()
            self._held[source] = text[cut:]
            self._append(text[:cut])

    def write_stale(self) -> None:
        """Write out beginnings of lines that nobody went on with, such as a prompt."""
        now = time.monotonic()
        with self._lock:
            for source, text in self._held.items():
                if text and now - self._held_since[source] >= _STALE_SECONDS:
                    self._append(text)
                    self._held[source] = b""

    def say(self, sentence: str) -> None:
        """Add a line of the node's own."""
        with self._lock:
            self._write_held()
            self._append(f"brookbox: {sentence}\n".encode())

    def close(self) -> None:
        """Write what is held, and close; twice does no harm."""
        with self._lock:
            if self._file >= 0:
                self._write_held()
                os.close(self._file)
                self._file = -1

    def _write_held(self) -> None:
        for source, text in self._held.items():
            if text:
                self._append(text + b"\n")
                self._held[source] = b""

    def _append(self, text: bytes) -> None:
        if not text or self._file < 0:
            return
        self._remembered = (self._remembered + text)[-_REMEMBERED:]
        with contextlib.suppress(OSError):  # a full disk
            for start in range(0, len(text), self._end or 1):
                self._append_piece(text[start : start + (self._end or 1)])

    def _append_piece(self, piece: bytes) -> None:
        if self._size + len(piece) > self._most:
            self._cut_middle()
        self._size += os.pwrite(self._file, piece, self._size)

    def _cut_middle(self) -> None:
        """Keep the head and the last lines; the file may have been longer before this run."""
        kept_from = max(self._size - self._end, self._head + self._marker)
        kept = os.pread(self._file, self._end, kept_from)
        line = kept.find(b"\n") + 1
        kept_from, kept = kept_from + line, kept[line:]
        self._left_out += kept_from - self._head - self._marker
        marker = f"\n… {self._left_out} bytes were left out here (log_mb in info.json) …\n".encode()
        os.pwrite(self._file, marker + kept, self._head)
        self._marker = len(marker)
        self._size = self._head + len(marker) + len(kept)
        os.ftruncate(self._file, self._size)
