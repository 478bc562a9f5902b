"""The stream folders in a backup: whole, but for what is large or is made again.

Without `everything` a stream's models and memory and its files above 100 MB stay out,
each named; what git and Python keep for themselves never goes in.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.disk.copies import Copied, LeftOut, copy_tree
from appliance.disk.sync import sync_path
from appliance.disk.trees import remove_tree

FOLDER = "streams"
_LARGEST_BYTES = 100_000_000
_MORE = "--with-files copies it"


@dataclass(frozen=True, slots=True)
class PutBack:
    """Names of stream folders: those that were put back, those that were there and stay."""

    back: tuple[str, ...]
    left: tuple[str, ...]


def save_streams(streams_folder: Path, backup: Path, *, everything: bool) -> list[LeftOut]:
    """Copy the stream folders into a backup; what was left out, by its path in the backup."""
    models: dict[str, str] = {}

    def why_not(path: str, facts: os.stat_result) -> str | None:
        stream, _, inside = path.partition("/")
        if not inside:
            return _why_no_stream(stream, facts)
        if stream not in models:
            models[stream] = _models_of(streams_folder / stream)
        return _why_not(inside, facts, models[stream], everything)

    copied = copy_tree(streams_folder, backup / FOLDER, why_not=why_not)
    return [replace(one, path=f"{FOLDER}/{one.path}") for one in copied.left_out]


def restore_streams(backup: Path, streams_folder: Path) -> PutBack:
    """Put back each stream folder that is not there, whole; one that is there stays."""
    saved = backup / FOLDER
    back, left = [], []
    for source in sorted(path for path in saved.glob("*") if path.is_dir()):
        target = streams_folder / source.name
        if os.path.lexists(target):
            left.append(source.name)
            continue
        _put_back(source, target)
        back.append(source.name)
    return PutBack(tuple(back), tuple(left))


def _put_back(source: Path, target: Path) -> Copied:
    # Hidden until it is whole: a hidden folder is no stream.
    part = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_tree(part)
    copied = copy_tree(source, part)
    part.rename(target)
    sync_path(target.parent)
    return copied


def _why_no_stream(name: str, facts: os.stat_result) -> str | None:
    """Take every folder that may be a stream; hidden ones and loose files are none."""
    return "" if stat.S_ISDIR(facts.st_mode) and not name.startswith(".") else None


def _why_not(inside: str, facts: os.stat_result, models: str, everything: bool) -> str | None:
    name = inside.rpartition("/")[2]
    if name == "__pycache__":
        return None  # Python makes it again
    if name == ".git":
        return "git's own folder is never copied"
    if everything:
        return ""
    if inside in {"models", "memory", models} and stat.S_ISDIR(facts.st_mode):
        return f"the stream's {'memory' if inside == 'memory' else 'models'}; {_MORE}"
    if facts.st_size > _LARGEST_BYTES and stat.S_ISREG(facts.st_mode):
        return f"{facts.st_size / 1e6:.0f} MB; {_MORE}"
    return ""


def _models_of(stream: Path) -> str:
    """Name the folder that info.json says holds the models; "" when it says none.

    Read as plain JSON: the housekeeper, which does this each night, must not hold the
    libraries that read it properly.
    """
    try:
        info = json.loads((stream / "info.json").read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return ""
    models = info.get("models") if isinstance(info, dict) else None
    return os.path.normpath(models) if models and isinstance(models, str) else ""
