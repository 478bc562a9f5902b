"""Look at the node's parts: index, queue, processes, streams."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from appliance.amounts import count
from appliance.disk import trash
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.disk.quarantine_list import QuarantineList
from appliance.errors import BrookboxError, IndexUnavailable, QueueUnavailable
from appliance.health.backup_folders import found_in
from appliance.health.finding import Finding, ok, warn, wrong
from appliance.health.gone_streams import gone_streams
from appliance.index import beats, events, file_check, lanes, migrate, unknown_sends
from appliance.index.beats import Beat
from appliance.index.database import Database, connect, sqlite_file
from appliance.index.lanes import Lane
from appliance.queue.depth import look
from appliance.settings import Settings
from appliance.streams.catalog import Streams, streams_of

PROCESSES = ("receiver", "dispatcher", "worker", "router", "housekeeper", "web")
SILENCE = timedelta(seconds=60)
_OLD_BACKUP = timedelta(days=2)
_MISSED = timedelta(days=7)


def check_index(settings: Settings) -> Iterator[Finding]:
    """Look at the index: can it be read, is it sound, has it the right schema."""
    about = "index"
    if not settings.index.url and not sqlite_file(settings).exists():
        yield _schema(None)
        return
    try:
        db = connect(settings)
        found = migrate.found_version(db)
    except (BrookboxError, OSError) as error:
        remedy = getattr(error, "remedy", "look at index.url and the data volume")
        yield wrong(about, f"The index cannot be opened: {error}.", _other(remedy, settings))
        return
    try:
        if found != migrate.wanted_version():
            yield _schema(found)
            return
        if damage := file_check.integrity(db):
            remedy = "brookbox restore FOLDER of a backup, or brookbox index rebuild"
            yield wrong(about, f"The index is damaged: {damage}.", remedy)
            return
        yield ok(about, f"The index is sound and has schema {found}.")
    except IndexUnavailable as error:
        yield wrong(about, f"{error}.", _other(error.remedy, settings))
    finally:
        db.close()


def check_queue(settings: Settings) -> Iterator[Finding]:
    """Ask every gearmand."""
    try:
        for server in look(settings.queue.servers):
            lanes_of_it = count(len(server.listeners), "lane")
            yield ok("gearmand", f"gearmand {server.version} at {server.server}, {lanes_of_it}.")
    except QueueUnavailable as error:
        log = settings.data_root / "logs" / "gearmand.log"
        remedy = f"brookbox up starts it; when the node runs, read {log}"
        yield wrong("gearmand", f"{error}. Jobs wait in the index until it is back.", remedy)


def check_processes(db: Database, runs: bool) -> Iterator[Finding]:
    """Look whether every process has said lately that it is alive."""
    now = datetime.now(UTC)
    with db.read() as connection:
        newest = {beat.name: beat for beat in _by_age(beats.all_beats(connection))}
    if not runs:
        yield warn("node", "The node does not run.", "brookbox up")
        return
    for name in PROCESSES:
        beat = newest.get(name)
        remedy = f"read the log of {name} in data_root/logs"
        if beat is None:
            yield wrong(name, f"{name} has not said that it is alive.", remedy)
        elif now - beat.at > SILENCE:
            seconds = (now - beat.at).total_seconds()
            yield wrong(name, f"{name} has been silent for {seconds:.0f} s.", remedy)
        elif beat.says:
            yield warn(name, f"{name} says: {beat.says}", remedy)
        else:
            yield ok(name, f"{name} is alive.")


def check_backups(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Look when the index was backed up last."""
    folder = Layout(settings.data_root).backups
    made = found_in(folder)
    if not made:
        yield ok("backup", "There is no backup yet; one is made each night while the node runs.")
        return
    at = made[-1].made_at
    told = f"The last backup in {folder} is of {at:%Y-%m-%d %H:%M} UTC."
    if now - at > _OLD_BACKUP:
        yield warn("backup", told, "read housekeeper.log, or: brookbox backup DIR")
    else:
        yield ok("backup", told)


def check_streams(settings: Settings, db: Database | None, runs: bool) -> Iterator[Finding]:
    """Look at the streams folder, and why a good stream cannot run just now."""
    folder = settings.streams_folder
    if not folder.is_dir():
        remedy = "brookbox up (it copies the shipped ones)"
        yield warn("streams", f"There is no streams folder {folder}.", remedy)
        return
    streams = streams_of(settings)
    yield from _broken(streams)
    best = best_lanes(db) if db is not None and runs else {}
    for stream in streams.serving():
        about, lane = f"stream {stream.ae_title}", best.get(stream.ae_title)
        if lane is not None and lane.is_open:
            yield ok(about, f"It can run ({lane.executor}).")
        elif lane is not None:
            yield warn(about, f"Its jobs wait: {lane.why_not}", lane.remedy)
        elif runs:
            yield warn(about, "No worker serves it.", "brookbox worker, or read worker.log")
        else:
            yield ok(about, f"{stream.folder.name}/info.json is good.")


def check_gone_streams(settings: Settings, db: Database) -> Iterator[Finding]:
    """Look for jobs that wait or run though no stream has their AE title any more."""
    streams = streams_of(settings)
    with db.read() as connection:
        found = gone_streams(connection, streams, settings.streams_folder)
    for one in found:
        yield warn(f"stream {one.ae_title}", one.sentence, one.remedy)


def check_quarantine(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Say what came into quarantine lately: its senders may think that all is well."""
    listed = QuarantineList(Layout(settings.data_root))
    if held := listed.counts()[Kind.HELD]:
        sentence = f"Held in quarantine until a person decides: {count(held, 'file')}."
        yield warn("quarantine", sentence, "brookbox quarantine list --kind held")
    if found := listed.count_since(now - timedelta(hours=24)):
        sentence = f"{count(found, 'file')} came into quarantine in the last 24 hours."
        yield warn("quarantine", sentence, "brookbox quarantine list")


def check_unknown_sends(db: Database, now: datetime) -> Iterator[Finding]:
    """Say of which jobs of the last days nobody knows whether they were sent, after a restore."""
    since = now - _MISSED
    with db.read() as connection:
        found = unknown_sends.unknown_jobs(connection, since)
    if found:
        yield warn(
            "deliveries",
            f"Of {count(len(found), 'job')} of the last {_MISSED.days} days nobody knows since the "
            "restore or rebuild of the index whether the results were sent.",
            f"{unknown_sends.COMMAND} --unknown --since {since:%Y-%m-%d}",
        )


def check_erasures(settings: Settings) -> Iterator[Finding]:
    """Say which erasures have begun and not ended: they were killed, or are at work."""
    for erasure in trash.begun(Layout(settings.data_root)):
        sentence = f"Erasure {erasure} is not finished."
        yield warn("erasure", sentence, "brookbox forget --finish (a running node does it, too)")


def newest_time(db: Database) -> datetime | None:
    """Give the time of the newest event or beat in the index; None when there is none."""
    with db.read() as connection:
        times = [event.at for event in events.latest(connection, 1)]
        times += [beat.at for beat in beats.all_beats(connection)]
    return max(times, default=None)


def best_lanes(db: Database) -> dict[str, Lane]:
    """Map AE titles to a lane of theirs that had a beat lately, an open one if there is one."""
    with db.read() as connection:
        found = lanes.lanes_since(connection, datetime.now(UTC) - SILENCE)
    best: dict[str, Lane] = {}
    for lane in sorted(found, key=lambda lane: lane.is_open):
        best[lane.ae_title] = lane
    return best


def _broken(streams: Streams) -> Iterator[Finding]:
    for stream in streams.all:
        about = f"stream {stream.ae_title or stream.folder.name}"
        for problem in stream.problems:
            make = wrong if problem.stops else warn
            remedy = f"mend {stream.folder / problem.file}: brookbox streams check {stream.folder}"
            yield make(about, f"{stream.folder.name}/{problem}", remedy)


def _schema(found: str | None) -> Finding:
    wanted = migrate.wanted_version()
    if found is None:
        return warn("index", "The index is empty.", "brookbox up (it makes it)")
    sentence = f"The index has schema {found}; this program wants {wanted}."
    return wrong("index", sentence, "brookbox up (it migrates, after a backup)")


def _other(remedy: str, settings: Settings) -> str:
    """Give a remedy that is not to ask the doctor again."""
    if "doctor" not in remedy:
        return remedy
    url = settings.index.url
    return f"see that {url.split('@')[-1]} runs" if url else f"ls -l {settings.data_root}"


def _by_age(seen: list[Beat]) -> list[Beat]:
    return sorted(seen, key=lambda beat: beat.at)
