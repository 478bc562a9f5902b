"""The job folder that a MagickBox host stream sees: INPUT, OUTPUT, its log and proc.json.

Old templates write `<INPUT>/../processing.log` themselves.  So INPUT and OUTPUT stand
in a folder of their own while such a stream runs; what it logs there is followed into
our own log, and afterwards everything has its usual place again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from appliance.disk.layout import JobFolder
from appliance.disk.trees import remove_tree
from appliance.worker.log_file import LogFile

_MOST_AT_ONCE = 1 << 20


class Beside:
    """MagickBox's job folder of one run, inside ours."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self.path = folder.path / "magickbox"
        self.input = self.path / "INPUT"
        self.output = self.path / "OUTPUT"
        self._read = 0

    def make(self) -> None:
        """Move INPUT and OUTPUT in."""
        remove_tree(self.path)
        self.path.mkdir(mode=0o700)
        self._folder.input.rename(self.input)
        self._folder.output.rename(self.output)

    def follow(self, log: LogFile) -> None:
        """Take into our log what the stream added to its own."""
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            number = os.open(self.path / "processing.log", flags)
            with os.fdopen(number, "rb") as file:
                status = os.fstat(number)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                    return
                if status.st_size < self._read:  # it began its log anew
                    self._read = 0
                file.seek(self._read)
                while chunk := file.read(_MOST_AT_ONCE):
                    self._read += len(chunk)
                    log.write("processing.log", chunk)

    def undo(self) -> None:
        """Put everything back, when nothing of the run is left alive."""
        for own, usual in (
            (self.input, self._folder.input),
            (self.output, self._folder.output),
        ):
            if own.is_dir() and not own.is_symlink():
                own.rename(usual)
            else:  # the stream removed it, or put something else in its place
                usual.mkdir(mode=0o700, exist_ok=True)
        self._keep_proc(self.path / "proc.json")
        remove_tree(self.path)

    def _keep_proc(self, proc: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            status = proc.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                proc.rename(self._folder.proc)
