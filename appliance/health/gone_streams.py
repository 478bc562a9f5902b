"""AE titles with work and no stream: somebody took the folder away while studies waited.

Their jobs wait until it is put back.  Asked by status, doctor and the pages, which
otherwise show streams by folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.amounts import count
from appliance.index import job_list
from appliance.index.database import Connection
from appliance.streams.catalog import Streams


@dataclass(frozen=True, slots=True)
class Gone:
    """What is left of a stream; `waiting` are its queued jobs and open arrivals."""

    ae_title: str
    waiting: int
    running: int
    remedy: str

    @property
    def sentence(self) -> str:
        """Say what is wrong."""
        verbs = {"wait": self.waiting, "run": self.running}
        counts = [
            f"{count(number, 'study')} {verb}{'s' if number == 1 else ''}"
            for verb, number in verbs.items()
            if number
        ]
        return f"No stream has the AE title {self.ae_title} any more; {' and '.join(counts)}."


def gone_streams(connection: Connection, streams: Streams, folder: Path) -> list[Gone]:
    """List the AE titles that have waiting or running jobs and no stream in `folder`."""
    waiting = job_list.waiting_by_stream(connection)
    running = [job.ae_title for job in job_list.running_jobs(connection)]
    return [
        Gone(ae_title, waiting.get(ae_title, 0), running.count(ae_title), _remedy(ae_title, folder))
        for ae_title in sorted({*waiting, *running})
        if streams.find(ae_title) is None
    ]


def _remedy(ae_title: str, folder: Path) -> str:
    jobs = f"brookbox jobs list --stream {ae_title}"
    return f"put its folder back into {folder}, or cancel each job of: {jobs}"
