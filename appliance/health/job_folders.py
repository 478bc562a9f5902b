"""Which jobs have a folder, whatever the index says."""

from __future__ import annotations

import os

from appliance.disk.layout import Layout


def job_ids(layout: Layout) -> list[int]:
    """List the jobs that have a folder, in order of their ids."""
    return sorted(int(entry.name) for entry in os.scandir(layout.jobs) if entry.name.isdigit())
