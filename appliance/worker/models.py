"""The folder of a stream's models, which it sees read-only.

It is inside the stream's own, links followed: one that leads out of it would show the
stream what its author chose of this machine.
"""

from __future__ import annotations

from pathlib import Path

from appliance.streams.catalog import Stream
from appliance.worker.executor import Waits


def models_folder(stream: Stream) -> Path | None:
    """Give the folder that info.json names; None when it names none that may be shown."""
    name = stream.good_info.models
    if not name:
        return None
    folder = (stream.folder / name).resolve()
    return folder if folder.is_dir() and folder.is_relative_to(stream.folder.resolve()) else None


def why_no_models(stream: Stream) -> Waits | None:
    """Say why a stream cannot have the models that it names; None when it can, or names none."""
    if not stream.good_info.models or models_folder(stream) is not None:
        return None
    folder = stream.folder / stream.good_info.models
    if not folder.is_dir():
        return Waits(f"The folder of its models, {folder}, is not there", "copy it there")
    return Waits(
        f"The folder of its models, {folder}, leads out of the stream's folder",
        "copy it there, or mount it there, instead of a link",
    )
