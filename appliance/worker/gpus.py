"""The GPUs of this machine, by the names under which Docker hands them out."""

from __future__ import annotations

import re
import subprocess
import time

_KNOWN_SECONDS = 60.0
_known: tuple[float, tuple[str, ...]] = (-_KNOWN_SECONDS, ())


def gpu_devices() -> tuple[str, ...]:
    """List the GPUs, as NVIDIA's driver names them; none where there is no driver.

    Asked anew at most once a minute: a worker asks before each job.
    """
    global _known
    if time.monotonic() - _known[0] >= _KNOWN_SECONDS:
        _known = time.monotonic(), _ask()
    return _known[1]


def _ask() -> tuple[str, ...]:
    try:
        answer = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(re.findall(r"UUID: (GPU-[0-9a-f-]+)", answer.stdout))
