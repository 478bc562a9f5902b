"""A whole backup: a folder with the index, the settings and a manifest, and put it back.

The nightly one holds no studies; `with_files` copies them too (as links where the
volume is the same).  The folder appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import appliance
from appliance.disk.layout import Layout
from appliance.errors import BackupError, DiskError
from appliance.index.backup import load_index, save_index, saved_name
from appliance.settings import Settings

MANIFEST = "manifest.json"
# Stored files never change, so links will do; those of a running job still grow.
_FILES = {"studies": True, "quarantine": True, "jobs": False}
NIGHTLY = "nightly-"


@dataclass(frozen=True, slots=True)
class Backup:
    """What stands in a backup's folder."""

    folder: Path
    made_at: datetime
    version: str
    index: str
    with_files: bool
    digests: dict[str, str]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back, and what was left as it is."""

    files: int
    index_aside: Path | None
    settings_left: tuple[str, ...]


def make_backup(
    settings: Settings, folder: Path, now: datetime, *, with_files: bool = False, name: str = ""
) -> Backup:
    """Make a backup in a new folder below `folder`; BackupError or DiskError when it cannot be.

    It holds no secrets: the access key and password files stay where they are.
    """
    made = folder / (name or f"brookbox-{now:%Y%m%dT%H%M%SZ}")
    part = made.with_name(made.name + ".part")
    if made.exists():
        raise BackupError(f"{made} is there already", remedy="wait a second, or remove it")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True, mode=0o700)
        save_index(settings, part / saved_name(settings))
        _copy_configuration(settings, part)
        if with_files:
            for kind, may_link in _FILES.items():
                _bring(settings.data_root / kind, part / "data" / kind, may_link)
        backup = _write_manifest(settings, part, now, with_files)
        part.rename(made)
        _sync(folder)
    except OSError as error:
        raise DiskError(
            f"the backup cannot be written to {made}: {error.strerror or error}",
            remedy=f"look at the free space and the owner of {folder}",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Backup(made, backup.made_at, backup.version, backup.index, with_files, backup.digests)


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
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(
            f"{folder} is not a backup: {MANIFEST} cannot be read ({error})",
            remedy="name the folder that brookbox backup made",
        ) from error
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
    are there stay, and so does a settings file.
    """
    layout = Layout(settings.data_root)
    layout.make()
    aside = load_index(settings, backup.folder / backup.index, now)
    files = 0
    if backup.with_files:
        files = sum(
            _bring(backup.folder / "data" / kind, layout.root / kind, may_link)
            for kind, may_link in _FILES.items()
        )
    left = []
    for saved, place in _configuration(settings, backup.folder):
        if not saved.is_file():
            continue
        if place.exists():
            left.append(str(place))
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(saved, place)
    return Restored(files, aside, tuple(left))


def remove_old_nightly(folder: Path, keep: int) -> None:
    """Remove the oldest nightly backups, but for so many."""
    nightly = sorted(path for path in folder.glob(f"{NIGHTLY}*") if path.is_dir())
    for path in nightly[: max(len(nightly) - keep, 0)]:
        shutil.rmtree(path, ignore_errors=True)


def _configuration(settings: Settings, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Pair the places of settings and routing rules in a backup with those in the node."""
    source = settings.source or settings.config_folder / "brookbox.yaml"
    yield folder / "config" / "brookbox.yaml", source
    yield folder / "config" / "routing.yaml", settings.routing_file


def _copy_configuration(settings: Settings, folder: Path) -> None:
    for saved, place in _configuration(settings, folder):
        if place.is_file():
            saved.parent.mkdir(exist_ok=True)
            shutil.copyfile(place, saved)
    for info in sorted(settings.streams_folder.glob("*/info.json")):
        saved = folder / "streams" / info.parent.name / "info.json"
        saved.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(info, saved)


def _bring(source: Path, target: Path, may_link: bool) -> int:
    """Bring the regular files of a folder to another place that lacks them; how many."""
    count = 0
    for path, _, names in os.walk(source):
        folder = target / Path(path).relative_to(source)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in names:
            file, place = Path(path) / name, folder / name
            if place.exists() or not file.is_file() or file.is_symlink():
                continue
            with contextlib.suppress(FileNotFoundError):  # removed while we copied
                _link_or_copy(file, place, may_link)
                count += 1
    return count


def _link_or_copy(file: Path, place: Path, may_link: bool) -> None:
    if may_link:
        try:
            os.link(file, place)
        except FileNotFoundError:
            raise
        except OSError:  # another volume, or one without links
            pass
        else:
            return
    shutil.copy2(file, place)


def _write_manifest(settings: Settings, folder: Path, now: datetime, with_files: bool) -> Backup:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {str(path.relative_to(folder)): _sha256(path) for path in files}
    version = getattr(appliance, "__version__", "")
    backup = Backup(folder, now, version, saved_name(settings), with_files, digests)
    facts = {
        "made_at": now.isoformat(),
        "version": version,
        "index": backup.index,
        "with_files": with_files,
        "sha256": digests,
    }
    (folder / MANIFEST).write_text(json.dumps(facts, indent=2), "utf-8")
    for path in (*files, folder / MANIFEST):
        _sync(path)
    return backup


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
