"""What gearmand says of itself: how many rings wait, and who listens.

For metrics, doctor and the pages, by gearmand's administration protocol.  How
many jobs wait, only the index knows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from gearman.admin_client import GearmanAdminClient

from appliance.queue.connection import TROUBLE, Connection, unavailable
from appliance.queue.functions import ae_title_of


@dataclass(frozen=True, slots=True)
class Depth:
    """The rings of one stream: `queued` are not picked up yet, `running` are held by a lane."""

    ae_title: str
    queued: int
    running: int
    lanes: int


@dataclass(frozen=True, slots=True)
class Listener:
    """One lane's connection; `name` is what it calls itself."""

    address: str
    name: str
    ae_titles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gearmand:
    """One gearmand server, as it is now."""

    server: str
    version: str
    depths: tuple[Depth, ...]
    listeners: tuple[Listener, ...]


def look(servers: Sequence[str], patience_seconds: float = 5.0) -> list[Gearmand]:
    """Ask every server; QueueUnavailable when one does not answer."""
    return [_look_at(server, patience_seconds) for server in servers]


def _look_at(server: str, patience_seconds: float) -> Gearmand:
    client = _Admin([server], poll_timeout=patience_seconds)
    try:
        return Gearmand(
            server=server,
            version=str(client.get_version()).removeprefix("OK ").strip(),
            depths=tuple(_depths(client.get_status())),
            listeners=tuple(_listeners(client.get_workers())),
        )
    except TROUBLE as error:
        raise unavailable((server,), error) from error
    finally:
        with contextlib.suppress(*TROUBLE):
            client.shutdown()


class _Admin(GearmanAdminClient):  # type: ignore[misc]
    connection_class = Connection


def _depths(rows: Sequence[dict[str, object]]) -> list[Depth]:
    found = []
    for row in rows:
        ae_title = ae_title_of(str(row["task"]))
        if ae_title is not None:
            # gearmand counts what runs among what it calls queued.
            running = int(str(row["running"]))
            waiting = int(str(row["queued"])) - running
            found.append(Depth(ae_title, waiting, running, int(str(row["workers"]))))
    return sorted(found, key=lambda depth: depth.ae_title)


def _listeners(rows: Sequence[dict[str, object]]) -> list[Listener]:
    found = []
    for row in rows:
        functions = row["tasks"]
        assert isinstance(functions, tuple)
        ae_titles = tuple(title for one in functions if (title := ae_title_of(one)) is not None)
        if ae_titles:
            found.append(Listener(str(row["ip"]), str(row["client_id"]), ae_titles))
    return sorted(found, key=lambda one: (one.ae_titles, one.name))
