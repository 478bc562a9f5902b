"""Which streams cannot serve though they are to, and since when: a note in `run/`.

The dispatcher writes it, the housekeeper reads it for its alerts: only the one of them
holds what reads info.json.  A folder that says `"enabled": 0` is meant to serve nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.disk.layout import Layout

if TYPE_CHECKING:
    from appliance.streams.catalog import Stream, Streams

_FILE = "broken.json"
_MOST_TOLD = 2


@dataclass(frozen=True, slots=True)
class Broken:
    """One AE title, or one folder that tells none; `is_served`: another folder serves it."""

    subject: str
    sentence: str
    remedy: str
    is_served: bool
    since: str  # ISO 8601


def found(streams: Streams, now: datetime) -> list[Broken]:
    """List what is broken now, in order of folder name."""
    broken: dict[str, list[Stream]] = {}
    for stream in streams.all:
        if not stream.is_good and (stream.info is None or stream.is_enabled):
            broken.setdefault(stream.ae_title or stream.folder.name, []).append(stream)
    served = {stream.ae_title for stream in streams.serving()}
    return [_told(subject, of_it, served, now) for subject, of_it in broken.items()]


def note(data_root: Path, streams: Streams, now: datetime) -> None:
    """Write down what is broken, if that has changed; what was so before is so since then."""
    before = {one.subject: one for one in noted(data_root)}
    broken = [
        replace(one, since=before[one.subject].since) if one.subject in before else one
        for one in found(streams, now)
    ]
    if broken == list(before.values()):
        return
    file = Layout(data_root).run / _FILE
    part = file.with_name(f"{_FILE}.part")
    try:
        part.write_text(json.dumps([asdict(one) for one in broken]), "utf-8")
        part.replace(file)
    except OSError as error:
        from appliance import logs  # no logger is held by who only reads

        logs.get().warning("which streams are broken could not be noted", why=str(error))


def noted(data_root: Path) -> list[Broken]:
    """List what was broken when the dispatcher last looked; nothing when it never did."""
    try:
        listed = json.loads((Layout(data_root).run / _FILE).read_text("utf-8"))
        broken = [Broken(**one) for one in listed]
        # One that is no time raises ValueError here, and not in who compares it.
        times = (datetime.fromisoformat(one.since).astimezone(UTC) for one in broken)
        return [replace(one, since=at.isoformat()) for one, at in zip(broken, times, strict=True)]
    except (OSError, ValueError, TypeError):
        return []


def _told(subject: str, streams: list[Stream], served: set[str], now: datetime) -> Broken:
    title, folder = streams[0].ae_title, streams[0].folder
    names = " and ".join(stream.folder.name for stream in streams)
    is_served = bool(title) and title in served
    if is_served:
        begins = f"{names} does not serve {title}, another folder does"
    elif title:
        begins = f"No stream serves {title}, who calls it is refused (1,1,7)"
    else:
        begins = f"The stream folder {names} cannot serve"
    problems = [problem for stream in streams for problem in _problems(stream)]
    sentence = f"{begins}: {' '.join(problems[:_MOST_TOLD])}"
    if (more := len(problems) - _MOST_TOLD) > 0:
        sentence += f" And {more} more."
    return Broken(subject, sentence, f"brookbox streams check {folder}", is_served, now.isoformat())


def _problems(stream: Stream) -> Iterator[str]:
    for problem in stream.problems:
        if problem.stops:
            yield f"{stream.folder.name}/{problem}"
