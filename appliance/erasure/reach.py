"""What an erasure cannot reach, so that a person can: named as far as this node knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from appliance.disk.layout import Layout
from appliance.health.backup_folders import found_in
from appliance.index.backup import saved_name, sqlite_path
from appliance.index.erasure import Begun
from appliance.index.reached import Received, Sender
from appliance.settings import Settings

_POSTGRESQL = (
    "PostgreSQL: free places in its own files until they are used again (VACUUM FULL takes "
    "them away, and keeps everybody out meanwhile), its archived log (WAL), its replicas and "
    "its own backups"
)


@dataclass(frozen=True, slots=True)
class Beyond:
    """What still may hold it: folders and files by path, nodes by name, the rest in words."""

    backups: tuple[str, ...]
    destinations: tuple[Received, ...]
    senders: tuple[Sender, ...]
    others: tuple[str, ...]


def beyond(
    settings: Settings, begun: Begun, jobs_of_nobody: int, is_patient: bool, now: datetime
) -> Beyond:
    """List it as it is before an erasure."""
    others = ["backups that were made into other folders, and copies that a person made"]
    if saved_name(settings) == "index.pgdump":
        others.append(_POSTGRESQL)
    if is_patient and jobs_of_nobody:
        others.append(
            f"{jobs_of_nobody} ended jobs over studies that are not kept any more: nobody knows "
            "whose they were (name such a study by its UID: brookbox forget --study UID)"
        )
    others += _remembered(settings, begun)
    return Beyond(
        backups=tuple(_backups(settings, now)),
        destinations=begun.destinations,
        senders=begun.senders,
        others=tuple(others),
    )


def _remembered(settings: Settings, begun: Begun) -> list[str]:
    """Name the kept folders of its streams: what they write there nobody else can read."""
    folders = [Layout(settings.data_root).memory(one) for one in begun.extent.streams]
    return [f"what a stream may remember of it: {one}" for one in folders if one.is_dir()]


def _backups(settings: Settings, now: datetime) -> list[str]:
    """Name the backups in the data folder, and the former indexes that were kept beside it."""
    layout = Layout(settings.data_root)
    made = [str(one.folder) for one in found_in(layout.backups) if one.made_at <= now]
    places = {layout.root}
    if saved_name(settings) == "index.sqlite3":
        places.add(sqlite_path(settings).absolute().parent)
    former = {str(path) for folder in places for path in folder.glob("index.*.before-*")}
    return made + sorted(path for path in former if not path.endswith(("-wal", "-shm")))
