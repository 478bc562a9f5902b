"""What `brookbox up` does before anything runs: folders, streams, index, configuration.

Called in a child process, so that the one that stays does not hold the database's
libraries for months.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from appliance.cli.supervisord_conf import gearmand_port, render, this_machine
from appliance.disk.layout import Layout
from appliance.errors import BrookboxError, NodeError, StreamError
from appliance.health.machine_checks import cannot_listen, find_program, taken_by
from appliance.receiver import tls
from appliance.settings import Settings

Say = Callable[[str], None]


def prepare(settings: Settings, say: Say) -> None:
    """Make everything ready to start; a BrookboxError says what is in the way."""
    check_ports(settings)
    tls.context_of(settings)
    _install_streams(settings, say)
    _migrate(settings, say)
    write_conf(settings)


def check_ports(settings: Settings) -> None:
    """Raise NodeError when another program listens where the node is to listen."""
    for name, address, port in listening(settings):
        if why := cannot_listen(address, port):
            setting = f"{name}.port" if name != "gearmand" else "queue.servers"
            raise NodeError(
                f"{name} cannot listen on {address}:{port}: {why}{taken_by(port)}",
                remedy=f"stop what listens there, or choose another port: {setting}",
            )


def listening(settings: Settings) -> list[tuple[str, str, int]]:
    """List what the node listens on: name, address, port."""
    places = [
        ("receiver", settings.receiver.address, settings.receiver.port),
        ("web", settings.web.address, settings.web.port),
    ]
    if settings.queue.start_gearmand:
        places.append(("gearmand", "127.0.0.1", gearmand_port(settings)))
    return places


def write_conf(settings: Settings) -> Path:
    """Write run/supervisord.conf and the settings in force; give the conf's path."""
    from appliance.cli.in_force import write_in_force

    run = Layout(settings.data_root).run
    gearmand = _needed("gearmand", "apt install gearman-job-server", settings)
    setpriv = _needed("setpriv", "apt install util-linux", settings)
    conf = run / "supervisord.conf"
    conf.write_text(render(settings, this_machine(gearmand, setpriv, sys.executable)), "utf-8")
    conf.chmod(0o600)
    write_in_force(settings)
    return conf


def _needed(program: str, remedy: str, settings: Settings) -> str:
    found = find_program(program)
    if found or not settings.queue.start_gearmand:
        return found or program
    raise NodeError(f"{program} is not installed; the node's queue needs it", remedy=remedy)


def _install_streams(settings: Settings, say: Say) -> None:
    from appliance.streams import served
    from appliance.streams.shipped import install_shipped

    served.forget(settings.data_root)

    try:
        if install_shipped(settings.streams_folder):
            say(f"The streams that come with Brookbox now stand in {settings.streams_folder}.")
    except OSError as error:
        raise StreamError(
            f"the shipped streams cannot be copied to {settings.streams_folder}: {error.strerror}",
            remedy="make the folder, or name another one: node.streams_folder",
        ) from error


def _migrate(settings: Settings, say: Say) -> None:
    from appliance.health.backups import make_backup
    from appliance.index import belonging, migrate
    from appliance.index.backup import why_no_save
    from appliance.index.database import connect

    db = connect(settings)
    try:
        found = migrate.found_version(db)
        if not migrate.needs_migration(db):
            belonging.claim(db, settings)
            return
        if found is None:
            refuse_lost(settings)
        else:
            now = datetime.now(UTC)
            name = f"before-{migrate.wanted_version()}-{now:%Y%m%dT%H%M%SZ}"
            if why_not := why_no_save(settings):
                say(f"There is no backup before the migration: {why_not}.")
            else:
                made = make_backup(settings, Layout(settings.data_root).backups, now, name=name)
                say(f"A backup was made before the migration of the index: {made.folder}.")
        migrate.migrate(db)
        belonging.claim(db, settings)
        if found is not None:
            say(f"The index went from schema {found} to {migrate.wanted_version()}.")
    finally:
        db.close()


def refuse_lost(settings: Settings) -> None:
    """Raise NodeError when studies stand here that a new, empty index would not know of.

    The housekeeper would take them for what a crash left, and remove them.
    """
    studies = Layout(settings.data_root).studies
    if any(path.is_file() for path in studies.rglob("*")):
        raise NodeError(
            f"the index is gone, or index.url names another one: it is empty, and {studies} is not",
            remedy="brookbox restore BACKUP, or, without a backup: brookbox index rebuild",
        )


def in_child(work: Callable[[], None], complain: Callable[[BrookboxError], None]) -> bool:
    """Do work in a forked child; False when it failed, after it complained."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BrookboxError as error:
            complain(error)
        except Exception:  # noqa: BLE001 - the child's boundary: _exit would drop it unsaid
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
