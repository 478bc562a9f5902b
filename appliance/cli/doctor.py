"""`brookbox doctor`: look at everything, and say what to type next.  Works on a stopped node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import click

from appliance.cli import show
from appliance.cli.asked import GOES_ON, Asked, pass_asked
from appliance.cli.docker_checks import check_docker
from appliance.cli.prepare import listening
from appliance.disk.layout import Layout
from appliance.errors import BrookboxError, IndexUnavailable, RoutingError, SettingsError
from appliance.health import machine_checks, node_checks, node_lock
from appliance.health.alert_findings import with_alerts
from appliance.health.finding import Finding, is_well, ok, warn, wrong
from appliance.health.reception import check_reception
from appliance.health.sender_checks import check_senders
from appliance.housekeeper import clock
from appliance.index import alerts
from appliance.index.alerts import Alert
from appliance.index.database import Database, open_index
from appliance.settings import Settings


@click.command()
@pass_asked
def doctor(asked: Asked) -> int:
    """Look for what is wrong, and say what to type next."""
    findings = list(_settings_first(asked))
    if asked.as_json:
        show.as_json({"good": is_well(findings), "findings": findings})
    else:
        for one in findings:
            click.echo(f"{one.level:<6}{one.about}: {show.printable(one.sentence)}")
            if one.remedy:
                click.echo(f"      try: {one.remedy}")
        counts = {level: sum(f.level == level for f in findings) for level in ("warn", "wrong")}
        click.echo(f"{counts['wrong']} wrong, {counts['warn']} to look at.")
    return 0 if is_well(findings) else 1


def _settings_first(asked: Asked) -> Iterator[Finding]:
    try:
        settings = asked.good_settings()
    except SettingsError as error:
        for line in str(error).splitlines():
            yield wrong("settings", line, error.remedy)
        if (in_force := asked.settings_in_force()) is not None:
            yield warn("settings", GOES_ON, "mend the lines above, then: brookbox config reload")
            yield from examine(in_force)
        return
    where = settings.source or "no file: everything is at its default"
    yield ok("settings", f"The settings are good ({where}).")
    yield from examine(settings)


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything but the settings file itself, and list what the node is alarmed at."""
    runs = node_lock.holder(Layout(settings.data_root).run) is not None
    # Of a node that does not run nobody looks whether they are over.
    yield from with_alerts(list(_look(settings, runs)), _open_alerts(settings) if runs else [])


def _look(settings: Settings, runs: bool) -> Iterator[Finding]:
    yield from machine_checks.check_data_root(settings)
    yield from machine_checks.check_space(settings)
    yield from machine_checks.check_programs(settings)
    yield from machine_checks.check_ports(settings, listening(settings), runs)
    yield from check_senders(settings)
    index = list(node_checks.check_index(settings))
    yield from index
    db = _opened(settings) if all(one.level == "ok" for one in index) else None
    try:
        yield from _with_index(settings, db, runs)
    finally:
        if db is not None:
            db.close()
    yield from check_docker(settings, runs)
    yield from _check_routing(settings)


def _with_index(settings: Settings, db: Database | None, runs: bool) -> Iterable[Finding]:
    run = Layout(settings.data_root).run
    if runs or not settings.queue.start_gearmand:
        yield from node_checks.check_queue(settings)
    if db is not None:
        yield from node_checks.check_processes(db, runs)
    yield from check_reception(settings)
    newest = node_checks.newest_time(db) if db is not None else None
    yield from machine_checks.check_clocks(newest, clock.why_stopped(run), datetime.now(UTC))
    yield from node_checks.check_quarantine(settings, datetime.now(UTC))
    yield from node_checks.check_erasures(settings)
    yield from node_checks.check_backups(settings, datetime.now(UTC))
    yield from node_checks.check_streams(settings, db, runs)
    if db is not None:
        yield from node_checks.check_gone_streams(settings, db)
        yield from node_checks.check_unknown_sends(db, datetime.now(UTC))


def _check_routing(settings: Settings) -> Iterator[Finding]:
    from appliance.cli.routing import counts_of
    from appliance.router import routing_file

    try:
        found = routing_file.load(settings)
    except RoutingError as error:
        for line in str(error).splitlines():
            yield wrong("routing", line, error.remedy)
        return
    file = settings.routing_file
    good = f"{file} is good: {counts_of(found)}."
    yield ok("routing", good if file.is_file() else f"There is no {file}: nothing is sent.")


def _open_alerts(settings: Settings) -> list[Alert]:
    if (db := _opened(settings)) is None:
        return []
    try:
        with db.read() as connection:
            return alerts.open_alerts(connection)
    except IndexUnavailable:  # which the check of the index says
        return []
    finally:
        db.close()


def _opened(settings: Settings) -> Database | None:
    try:
        return open_index(settings)
    except BrookboxError:
        return None
