"""Where everything stands below `data_root`.

No path holds a received value but a UID that passed the check of PS3.5 9.1
(digits and dots, at most 64); anything else is filed under a name of ours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from appliance.dicom.names import is_uid


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
        ):
            folder.mkdir(mode=0o700, exist_ok=True)


def instance_path(study_uid: str, series_uid: str, sop_instance_uid: str) -> str:
    """Name an instance's file, below data_root: studies/<2 hex>/<Study>/<Series>/<SOP>.dcm.

    A name that is no UID is replaced by a digest of itself.
    """
    spread = hashlib.sha256(study_uid.encode()).hexdigest()[:2]
    study, series, sop = (_safe(uid) for uid in (study_uid, series_uid, sop_instance_uid))
    return f"studies/{spread}/{study}/{series}/{sop}.dcm"


def _safe(uid: str) -> str:
    if is_uid(uid):
        return uid
    return "x" + hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:40]
