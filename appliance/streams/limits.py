"""The limits of one run: those of info.json, else the node's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.amounts import DISK_GB, MEMORY_GB
from appliance.settings import Settings
from appliance.streams.info import StreamInfo


@dataclass(frozen=True, slots=True)
class Limits:
    """Each field bears the name of its key in info.json."""

    timeout_minutes: float
    memory_gb: float
    cpus: float
    pids: int
    shm_mb: int
    tmp_mb: int
    output_gb: float
    output_files: int
    log_mb: float

    @property
    def memory_bytes(self) -> int:
        """Memory, in bytes."""
        return int(self.memory_gb * MEMORY_GB)

    @property
    def output_bytes(self) -> int:
        """What may be left in /output, in bytes."""
        return int(self.output_gb * DISK_GB)

    @property
    def timeout_seconds(self) -> float:
        """The longest run, in seconds."""
        return self.timeout_minutes * 60


def limits_of(info: StreamInfo, settings: Settings) -> Limits:
    """Resolve the limits of a stream."""

    def one(name: str) -> Any:
        own = getattr(info, name)
        return getattr(settings.worker, name) if own is None else own

    return Limits(**{name: one(name) for name in Limits.__slots__})
