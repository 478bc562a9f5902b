"""The streams that come with Brookbox: in a checkout, or installed from the wheel."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from appliance.errors import NotFound


def shipped_folder() -> Path:
    """Find the folder of shipped streams; NotFound when the installation lacks it."""
    places = (
        Path(__file__).resolve().parents[2] / "streams",
        Path(sys.prefix) / "share" / "brookbox" / "streams",
    )
    for place in places:
        if (place / "base").is_dir():
            return place
    raise NotFound(
        "the streams that come with Brookbox are not installed",
        remedy="install the wheel again: pip install --force-reinstall brookbox",
    )


def install_shipped(streams_folder: Path) -> bool:
    """Copy the shipped streams where there is no streams folder yet; True when copied."""
    if streams_folder.exists():
        return False
    part = streams_folder.with_name(streams_folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(shipped_folder(), part, ignore=shutil.ignore_patterns("__pycache__"))
    part.rename(streams_folder)
    return True
