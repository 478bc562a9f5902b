"""Where everything stands below `data_root`.

No path holds a received value but a UID that passed the check of PS3.5 9.1
(digits and dots, at most 64); anything else is filed under a name of ours.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from appliance.dicom.names import is_uid

_VERSION = re.compile(r"(?P<sop>[0-9a-fx.]+?)(?:\.v(?P<version>[0-9]+))?\.dcm")


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The folder of one job, as MagickBox names its parts."""

    path: Path

    @property
    def input(self) -> Path:
        """The instances to work on, one flat file each."""
        return self.path / "INPUT"

    @property
    def output(self) -> Path:
        """What the stream leaves."""
        return self.path / "OUTPUT"

    @property
    def of_a_run(self) -> tuple[Path, ...]:
        """INPUT, and what else a run has while it goes on; nothing of it outlives the job."""
        return (self.input, *(self.path / name for name in ("magickbox", "home", "tmp", "told")))

    @property
    def info(self) -> Path:
        """What the stream is told of the job."""
        return self.path / "info.json"

    @property
    def record(self) -> Path:
        """The job's row as it ended, from which the index can be rebuilt."""
        return self.path / "job.json"

    @property
    def proc(self) -> Path:
        """What the stream said of its success."""
        return self.path / "proc.json"

    @property
    def log(self) -> Path:
        """Its standard output and error."""
        return self.path / "processing.log"


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one node."""

    root: Path

    @property
    def incoming(self) -> Path:
        """What is being kept: exactly the list of what a crash left."""
        return self.root / "incoming"

    @property
    def studies(self) -> Path:
        """Kept instances."""
        return self.root / "studies"

    @property
    def jobs(self) -> Path:
        """One folder for each job."""
        return self.root / "jobs"

    @property
    def quarantine(self) -> Path:
        """What came and could not be kept as an instance."""
        return self.root / "quarantine"

    @property
    def run(self) -> Path:
        """Sockets and pid files."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """The processes' logs."""
        return self.root / "logs"

    @property
    def history(self) -> Path:
        """Older versions of routing.yaml."""
        return self.root / "history"

    @property
    def backups(self) -> Path:
        """Backups of the index."""
        return self.root / "backups"

    @property
    def trash(self) -> Path:
        """What is being erased: one folder for each erasure that has not ended."""
        return self.root / "trash"

    @property
    def erasure_key(self) -> Path:
        """The key of the tombstones."""
        return self.root / "erasure.key"

    def memory(self, ae_title: str) -> Path:
        """Name the kept folder of a stream; an AE title is no path, so it is quoted."""
        return self.root / "memory" / quote(ae_title, safe="").replace(".", "%2E")

    def job(self, job_id: int) -> JobFolder:
        """Give the folder of a job; it need not be there yet."""
        return JobFolder(self.jobs / str(job_id))

    def make(self) -> None:
        """Make every folder that is not there yet, for the owner alone."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for folder in (
            self.incoming,
            self.studies,
            self.jobs,
            self.quarantine,
            self.run,
            self.logs,
            self.history,
            self.backups,
            self.trash,
        ):
            folder.mkdir(mode=0o700, exist_ok=True)


def instance_path(study_uid: str, series_uid: str, sop_instance_uid: str) -> str:
    """Name an instance's file, below data_root: studies/<2 hex>/<Study>/<Series>/<SOP>.dcm.

    A name that is no UID is replaced by a digest of itself.
    """
    spread = hashlib.sha256(study_uid.encode()).hexdigest()[:2]
    study, series, sop = (_safe(uid) for uid in (study_uid, series_uid, sop_instance_uid))
    return f"studies/{spread}/{study}/{series}/{sop}.dcm"


def version_of(path: str | Path) -> int:
    """Say which content of its instance a stored file is, counted from 1."""
    found = _VERSION.fullmatch(Path(path).name)
    return int(found["version"] or 1) if found else 1


def next_version(relative: str) -> str:
    """Name the place of the content that comes after this one: <SOP>.v2.dcm.

    No UID has a letter, so that no other instance is ever called so.
    """
    folder, _, name = relative.rpartition("/")
    return f"{folder}/{_file_name(sop_name(name), version_of(name) + 1)}"


def older_names(relative: str) -> tuple[str, ...]:
    """Name the places of the contents that came before this one, the first in front."""
    folder, _, name = relative.rpartition("/")
    versions = range(1, version_of(name))
    return tuple(f"{folder}/{_file_name(sop_name(name), version)}" for version in versions)


def sop_name(path: str | Path) -> str:
    """Give the SOP Instance UID, or our name for it, from the name of a stored file."""
    found = _VERSION.fullmatch(Path(path).name)
    return found["sop"] if found else Path(path).stem


def _file_name(sop: str, version: int) -> str:
    return f"{sop}.dcm" if version == 1 else f"{sop}.v{version}.dcm"


def _safe(uid: str) -> str:
    if is_uid(uid):
        return uid
    return "x" + hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:40]
