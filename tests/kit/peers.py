"""DICOM peers: DCMTK's storescu and storescp, with what each was told in its own log."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from tests.kit import require
from tests.kit.waiting import free_port, is_listening, wait_for

_SENDING = re.compile(r"Sending file: (.+)$")
_ANSWER = re.compile(r"Received Store Response \((.+)\)")


@dataclass(frozen=True)
class SendReport:
    """What one storescu run was told: file -> answer in DCMTK's words, and its exit code."""

    exit_code: int
    answers: dict[Path, str]
    text: str

    @property
    def acknowledged(self) -> list[Path]:
        """The files for which success or a warning was answered."""
        return [
            path
            for path, answer in self.answers.items()
            if answer.startswith(("Success", "Warning"))
        ]


def storescu_command(
    files: Sequence[Path], port: int, called: str, calling: str, options: Sequence[str] = ()
) -> list[str]:
    """Give the command line of a storescu that tells what it is answered."""
    return [
        require.program("storescu", "dcmtk"),
        "-v",
        "-nh",
        "-aec",
        called,
        "-aet",
        calling,
        *options,
        "127.0.0.1",
        str(port),
        *map(str, files),
    ]


def environment() -> dict[str, str]:
    """DCMTK's environment: without Nagle, which costs 40 ms an image on loopback."""
    return {**os.environ, "TCP_NODELAY": "1"}


def storescu(
    files: Sequence[Path],
    port: int,
    called: str,
    calling: str = "CT1",
    options: Sequence[str] = (),
    seconds: float = 120,
) -> SendReport:
    """Send files in one association and report what was answered for each."""
    done = subprocess.run(
        storescu_command(files, port, called, calling, options),
        capture_output=True,
        text=True,
        timeout=seconds,
        env=environment(),
    )
    return report(done.returncode, done.stdout + done.stderr)


def report(exit_code: int, text: str) -> SendReport:
    """Read a storescu log."""
    answers: dict[Path, str] = {}
    current: Path | None = None
    for line in text.splitlines():
        if found := _SENDING.search(line):
            current = Path(found.group(1))
        elif (found := _ANSWER.search(line)) and current is not None:
            answers[current] = found.group(1)
    return SendReport(exit_code, answers, text)


def echoscu(port: int, called: str, calling: str = "CT1") -> bool:
    """Say whether a C-ECHO is answered."""
    command = [
        require.program("echoscu", "dcmtk"),
        "-aec",
        called,
        "-aet",
        calling,
        "127.0.0.1",
        str(port),
    ]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


@dataclass
class Pacs:
    """DCMTK's storescp as the PACS that results are sent to."""

    folder: Path
    ae_title: str = "PACS"
    port: int = field(default_factory=free_port)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> Pacs:
        """Listen; `options` are storescp's, for this time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = (self.folder.parent / f"{self.folder.name}.log").open("ab")
        self.process = subprocess.Popen(
            [
                require.program("storescp", "dcmtk"),
                "-v",
                "-aet",
                self.ae_title,
                "+B",
                "-od",
                str(self.folder),
                *self.options,
                *options,
                str(self.port),
            ],
            stdout=self.log,
            stderr=self.log,
            env=environment(),
        )
        wait_for(lambda: is_listening(self.port), "the PACS listens")
        return self

    def stop(self) -> None:
        """Stop listening."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.log.close()
            self.process = None

    def files(self) -> list[Path]:
        """List what arrived."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def instances(self) -> list[pydicom.Dataset]:
        """Read what arrived, without pixels."""
        return [pydicom.dcmread(path, stop_before_pixels=True, force=True) for path in self.files()]

    def stored_names(self) -> list[str]:
        """List the names of every C-STORE it answered, each time it came, from its own log."""
        text = (self.folder.parent / f"{self.folder.name}.log").read_text("utf-8", "replace")
        return re.findall(r"storing DICOM file: (?:.*/)?(\S+)", text)
