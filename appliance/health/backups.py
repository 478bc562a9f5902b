"""A whole backup: a folder with index, settings, routing rules, streams and a manifest.

The nightly one holds no studies; `with_files` copies them too (as links where the
volume is the same).  The folder appears whole and durable, or not at all.  To put one
back is to copy what is not there, and to take in what came after it was made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import appliance
from appliance.disk.copies import LeftOut, copy_tree, sync_tree
from appliance.disk.layout import Layout
from appliance.disk.sync import sync_path
from appliance.errors import BackupError, DiskError
from appliance.health.backup_folders import MANIFEST, found_in, making
from appliance.health.backup_streams import PutBack, restore_streams, save_streams
from appliance.index.backup import check_save, load_index, save_index, saved_name, why_nothing
from appliance.settings import Settings

_WHY_NO_KEY = (
    "with the key of the tombstones one could test whom this backup had erased; keep it apart "
    "if that is to be answered after a loss of the disk"
)
# Stored files never change, so links will do; those of jobs and of streams still grow.
_FILES = {"jobs": False, "quarantine": True, "studies": True, "memory": False}
# The node goes on meanwhile.  A job has its record after its results, so records are copied
# first: none is in a backup without them.  A file may move from quarantine to studies (a person
# takes it in) and from studies to quarantine (other content takes its place), so quarantine
# is copied before studies and once more after: wherever it moves, one of the three meets it.
_IN_ORDER = ("jobs", "quarantine", "studies", "quarantine", "memory")


@dataclass(frozen=True, slots=True)
class Backup:
    """What stands in a backup's folder, and what of the node does not."""

    folder: Path
    made_at: datetime
    version: str
    index: str
    with_files: bool
    digests: dict[str, str]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back, and what was left as it is."""

    files: int
    index_aside: Path | None
    settings_left: tuple[str, ...]
    streams: PutBack


def make_backup(
    settings: Settings, folder: Path, now: datetime, *, with_files: bool = False, name: str = ""
) -> Backup:
    """Make a backup in a new folder below `folder`; BackupError or DiskError when it cannot be.

    It holds no secrets: the access key and password files stay where they are.
    """
    _check_target(settings, folder)
    made = folder / (name or f"brookbox-{now:%Y%m%dT%H%M%SZ}")
    with _plain_errors(f"the backup cannot be written to {made}", folder), making(made) as part:
        save_index(settings, part / saved_name(settings))
        _copy_configuration(settings, part)
        left_out = save_streams(settings.streams_folder, part, everything=with_files)
        if with_files:
            left_out += _copy_files(settings.data_root, part / "data")
        if (key := Layout(settings.data_root).erasure_key).exists():
            left_out.append(LeftOut(key.name, _WHY_NO_KEY))
        backup = Backup(
            made,
            now,
            getattr(appliance, "__version__", ""),
            saved_name(settings),
            with_files,
            _digests(part),
            tuple(left_out),
        )
        _write_manifest(part / MANIFEST, backup)
        sync_tree(part)
    return backup


def read_backup(folder: Path) -> Backup:
    """Read and check a backup: BackupError when a file is missing or differs from its digest."""
    try:
        facts = json.loads((folder / MANIFEST).read_text("utf-8"))
        backup = Backup(
            folder,
            datetime.fromisoformat(facts["made_at"]),
            facts["version"],
            facts["index"],
            facts["with_files"],
            facts["sha256"],
            tuple(LeftOut(**one) for one in facts["left_out"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_backup(folder, error) from error
    for path, digest in backup.digests.items():
        if not (folder / path).is_file() or _sha256(folder / path) != digest:
            raise BackupError(
                f"{folder / path} is missing or was changed since the backup",
                remedy="take another backup",
            )
    return backup


def restore_backup(settings: Settings, backup: Backup, now: datetime) -> Restored:
    """Put a backup into this node's data_root, which nothing may use meanwhile.

    Nothing is overwritten: the present index is kept beside the new one, files that
    are there stay, and so do stream folders and a settings file.  The index comes last,
    so that a restore that was killed can be repeated.
    """
    layout = Layout(settings.data_root)
    layout.make()
    check_save(settings, backup.folder / backup.index)
    with _plain_errors("the backup cannot be put back", layout.root):
        files = sum(
            copy_tree(backup.folder / "data" / kind, layout.root / kind, may_link=may_link).files
            for kind, may_link in _FILES.items()
        )
        streams = restore_streams(backup.folder, settings.streams_folder)
        left = _restore_configuration(settings, backup.folder)
        aside = load_index(settings, backup.folder / backup.index, now)
    return Restored(files, aside, tuple(left), streams)


def _check_target(settings: Settings, folder: Path) -> None:
    """Refuse a backup of nothing, and one into the folders that it would copy."""
    if why := why_nothing(settings):
        raise BackupError(
            f"there is nothing to back up: {why}",
            remedy="go to the folder of a node that has run, or name it: "
            f"brookbox --home FOLDER backup {folder}",
        )
    copied = [settings.streams_folder, *(settings.data_root / kind for kind in _FILES)]
    for one in copied:
        if folder.resolve().is_relative_to(one.resolve()):
            raise BackupError(
                f"{folder} is in {one}, which is backed up itself",
                remedy="name a folder elsewhere, on another disk if there is one",
            )


def _configuration(settings: Settings, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Pair the places of settings and routing rules in a backup with those in the node."""
    source = settings.source or settings.config_folder / "brookbox.yaml"
    yield folder / "config" / "brookbox.yaml", source
    yield folder / "config" / "routing.yaml", settings.routing_file


def _copy_configuration(settings: Settings, folder: Path) -> None:
    for saved, place in _configuration(settings, folder):
        if place.is_file():
            saved.parent.mkdir(exist_ok=True)
            shutil.copy2(place, saved)


def _restore_configuration(settings: Settings, folder: Path) -> list[str]:
    """Put back settings and rules that are not there; the paths of those that are."""
    left = []
    for saved, place in _configuration(settings, folder):
        if not saved.is_file():
            continue
        if place.exists():
            left.append(str(place))
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f"{place.name}.part")
        shutil.copy2(saved, part)
        sync_path(part)
        part.rename(place)
        sync_path(place.parent)
    return left


def _copy_files(data_root: Path, target: Path) -> list[LeftOut]:
    left_out: dict[LeftOut, None] = {}  # once each, in order: what is copied twice is named twice
    for kind in _IN_ORDER:
        copied = copy_tree(data_root / kind, target / kind, may_link=_FILES[kind])
        left_out |= {LeftOut(f"data/{kind}/{one.path}", one.why): None for one in copied.left_out}
    return list(left_out)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    paths = [path for path in files if path != folder / MANIFEST]
    return {str(path.relative_to(folder)): _sha256(path) for path in paths}


def _write_manifest(file: Path, backup: Backup) -> None:
    facts = {
        "made_at": backup.made_at.isoformat(),
        "version": backup.version,
        "index": backup.index,
        "with_files": backup.with_files,
        "left_out": [asdict(one) for one in backup.left_out],
        "sha256": backup.digests,
    }
    file.write_text(json.dumps(facts, indent=2), "utf-8")


def _no_backup(folder: Path, error: Exception) -> BackupError:
    """Say what the folder is instead, and which one may be meant."""
    if folder.name.endswith(".part"):
        return BackupError(
            f"{folder} is what is left of a backup that did not end",
            remedy=f"name a whole one: ls {folder.parent}",
        )
    if held := found_in(folder):
        count = "a backup" if len(held) == 1 else f"{len(held)} backups"
        return BackupError(
            f"{folder} is no backup, but holds {count}; the newest was made at "
            f"{held[-1].made_at:%Y-%m-%d %H:%M:%S} UTC",
            remedy=f"brookbox restore {held[-1].folder}",
        )
    return BackupError(
        f"{folder} is not a backup: {MANIFEST} cannot be read ({error})",
        remedy="name the folder that brookbox backup made",
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _plain_errors(what: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"{what}: {error.strerror or error}",
            remedy=f"look at the free space and the owner of {folder}",
        ) from error
