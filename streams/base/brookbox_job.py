"""One run of a stream: where its input, output and settings are, and how it ends.

The three places of the contract are `/input`, `/output` and `/job`, or what
BROOKBOX_INPUT, BROOKBOX_OUTPUT and BROOKBOX_JOB say.  Authors import all of this
from `brookbox_results`.  Nothing here prints what the data sets say.
"""

import hashlib
import json
import os
import secrets
import struct
import sys
import traceback
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydicom import Dataset, config, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, MediaStorageDirectoryStorage

# Values are copied as the sender wrote them, and pydicom's warnings about them
# would carry names and IDs into the job's log.
config.settings.reading_validation_mode = config.IGNORE
config.settings.writing_validation_mode = config.IGNORE

Success = Literal["success", "partial", "failed"]

# What pydicom and the decoders raise on bytes that are not what they claim to be.
UNREADABLE = (
    InvalidDicomError, OSError, EOFError, ValueError, TypeError, AttributeError, LookupError,
    RuntimeError, ArithmeticError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


class StreamError(Exception):
    """The stream cannot give a result; the text is the sentence that says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a stream: its three places, its settings and what its UIDs come from.

    `image` is empty where it runs as a plain process.  No other job of the study gets
    series numbers between `first_series_number` and the 99 after it.
    """

    input: Path
    output: Path
    stream: Mapping[str, Any]
    seed: str
    at: datetime
    image: str = ""
    first_series_number: int = 9000

    @classmethod
    def here(cls) -> "Job":
        """The job that this process was started for.

        Without an info.json (`python3 run.py` by hand) the stream's own info.json
        stands in and the seed is random: every such run makes new instances.
        """
        info = _load(Path(os.environ.get("BROOKBOX_JOB", "/job")) / "info.json")
        at = datetime.fromisoformat(info.get("received_at") or datetime.now(UTC).isoformat())
        return cls(
            input=Path(os.environ.get("BROOKBOX_INPUT", "/input")),
            output=Path(os.environ.get("BROOKBOX_OUTPUT", "/output")),
            stream=info.get("stream") or _load(Path(sys.argv[0]).parent / "info.json"),
            seed=info.get("result_seed") or secrets.token_hex(16),
            at=at if at.tzinfo else at.replace(tzinfo=UTC),
            image=info.get("image") or "",
            first_series_number=info.get("first_series_number") or 9000,
        )

    @property
    def name(self) -> str:
        """The stream's name and version."""
        return f"{self.stream.get('name', 'Stream')} {self.stream.get('version', '')}".strip()

    @property
    def caution(self) -> str:
        """What every result says of itself; empty where the settings say "diagnostic": true."""
        return "" if self.stream.get("diagnostic") is True else "research, not for diagnosis"

    def uid(self, name: str) -> UID:
        """The UID of the output called `name`: equal for every attempt of this job (PS3.5 B.2)."""
        digest = hashlib.sha256(f"{self.seed}\0{name}".encode()).digest()
        return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")

    def progress(self, done: int, of: int, step: str) -> None:
        """Say how far the job is; a reader never sees half a file."""
        self._write("progress.json", {"done": done, "of": of, "step": step})

    def proc(self, success: Success, message: str) -> None:
        """Say how the job ended, in one sentence."""
        self._write("proc.json", [{"success": success, "message": message}])

    def _write(self, name: str, content: object) -> None:
        part = self.output / f"{name}.part"
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(self.output / name)


def run(process: Callable[[Job], tuple[Success, str]]) -> NoReturn:
    """Run a stream's `process(job)` to the end of this Python process.

    Whatever it returns or raises becomes proc.json, the last line of the log and
    the exit code: 1 for failed, otherwise 0.
    """
    job = Job.here()
    job.output.mkdir(parents=True, exist_ok=True)
    success: Success = "failed"
    try:
        success, message = process(job)
    except StreamError as error:
        message = str(error)
    except Exception as error:  # noqa: BLE001 (the boundary of the process)
        traceback.print_exc()
        message = f"{job.name} ended with {type(error).__name__}; the log says where."
    job.proc(success, message)
    log(message)
    sys.exit(1 if success == "failed" else 0)


def log(message: str) -> None:
    """One line of the job's log, shown as it is written."""
    print(message, flush=True)


def read_input(folder: Path, pixels: bool = True) -> tuple[list[Dataset], list[str]]:
    """Read every file of the input, and say in a sentence each which was left out.

    `pixels=False` stops before the pixel data; `ds.filename` names the file.
    """
    if not folder.is_dir():
        raise StreamError(f"There is no input folder {folder}: set BROOKBOX_INPUT to one.")
    read: dict[str, Dataset] = {}
    left_out = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            ds = dcmread(path, stop_before_pixels=not pixels)
            reason = _why_not(ds, read)
        except UNREADABLE as error:
            reason = f"it cannot be read as DICOM ({type(error).__name__})"
        if reason:
            left_out.append(f"{path.relative_to(folder)} was left out: {reason}.")
        else:
            read[ds.SOPInstanceUID] = ds
    return list(read.values()), left_out


def whole_number(ds: Dataset, keyword: str, default: int = 0) -> int:
    """An integer attribute; `default` when it is absent, empty or not a number."""
    try:
        return int(ds.get(keyword, default))
    except UNREADABLE:
        return default


def _why_not(ds: Dataset, read: Mapping[str, Dataset]) -> str:
    if ds.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return "it is a DICOMDIR, not an instance"
    for keyword in ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"]:
        if not ds.get(keyword):
            return f"it has no {keyword}"
    if (twin := read.get(ds.SOPInstanceUID)) is not None:
        return f"it is the same instance as {Path(str(twin.filename)).name}"
    return ""


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    info = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(info, dict):
        raise ValueError(f"{path} is not a JSON object")
    return info
