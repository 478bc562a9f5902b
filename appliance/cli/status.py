"""`brookbox status`: what runs, what waits, what hinders it, and what it takes."""

from __future__ import annotations

import click

from appliance.amounts import count, of_disk, of_memory
from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked
from appliance.cli.week import show_week
from appliance.disk.layout import Layout
from appliance.errors import NodeError
from appliance.health import node_lock
from appliance.health.overview import Overview, StreamState, overview
from appliance.health.resources import Used, used_by
from appliance.settings import Settings


@click.command()
@click.option("--resources", is_flag=True, help="Memory and CPU of each process instead.")
@click.option("--week", is_flag=True, help="The node's own numbers of the last week instead.")
@pass_asked
def status(asked: Asked, resources: bool, week: bool) -> int:
    """What runs, what waits, and what hinders it."""
    settings = asked.settings()
    if resources:
        return _resources(asked, settings)
    if week:
        return show_week(asked)
    db = asked.open_index()
    view = overview(settings, db)
    db.close()
    if asked.as_json:
        show.as_json(view)
    else:
        _show(settings, view)
    return 0 if view.is_running and not view.missing else 1


def _show(settings: Settings, view: Overview) -> None:
    runs = f"runs (pid {view.pid})" if view.is_running else "does not run: brookbox up"
    click.echo(f"The node in {settings.data_root} {runs}.\n")
    rows = [(a.name, a.process, f"{a.silent_seconds:.0f} s ago", a.says) for a in view.processes]
    rows += [(name, "", "never", "") for name in view.missing]
    show.table(("process", "which", "last beat", "says"), rows, "No process is known.")
    click.echo()
    columns = ("stream", "folder", "state", "waiting", "running", "rings", "why", "try")
    show.table(columns, [_row(one) for one in view.streams], "There is no stream.")
    click.echo()
    show.facts(
        [
            ("listens", _ports(settings)),
            ("jobs", _counts(view.jobs)),
            ("results", _results(view.results_held)),
            ("deliveries", _counts(view.deliveries)),
            ("disk", f"{of_disk(view.free_bytes)} of {of_disk(view.size_bytes)} free"),
            ("refused", view.refuses),
            ("try", view.refuses_remedy),
            ("quarantine", _quarantined(view.quarantined, view.held)),
            ("erasures", _erasures(view.erasures)),
            ("gearmand", view.gearmand or "answers"),
            ("alerts", _alerts(view.alerts)),
        ]
    )


def _ports(settings: Settings) -> str:
    over_tls = f", over TLS on port {settings.receiver.tls_port}"
    rules = settings.receiver
    over_tls = f", over TLS on port {rules.tls_port}" if rules.tls_port else ""
    return f"DICOM on port {rules.port}{over_tls}; the page on port {settings.web.port}"


def _results(held: int) -> str:
    if not held:
        return ""
    return f"of {count(held, 'job')} held for a person to release: brookbox jobs list"


def _quarantined(lately: int, held: int) -> str:
    told = [f"{count(lately, 'file')} in the last 24 hours"] if lately else []
    told += [f"{count(held, 'file')} held for a person to decide"] if held else []
    return f"{', '.join(told)}: brookbox quarantine list" if told else ""


def _alerts(sentences: tuple[str, ...]) -> str:
    if not sentences:
        return ""
    return f"{count(len(sentences), 'alert')}: brookbox alerts"


def _erasures(begun: tuple[str, ...]) -> str:
    if not begun:
        return ""
    return f"{count(len(begun), 'erasure')} not finished: brookbox forget --finish"


def _row(one: StreamState) -> tuple[object, ...]:
    state = f"{one.state} ({one.executor})" if one.can_run else one.state
    rings = "?" if one.rings is None else one.rings
    remedy = "" if one.can_run else one.remedy
    return one.ae_title, one.folder, state, one.waiting, one.running, rings, one.why, remedy


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _resources(asked: Asked, settings: Settings) -> int:
    holder = node_lock.holder(Layout(settings.data_root).run)
    if holder is None:
        raise NodeError(f"no node runs in {settings.data_root}", remedy="brookbox up")
    used = sorted(used_by(holder), key=lambda one: (one.name, one.pid))
    total = Used(0, "all", sum(u.pss_bytes for u in used), sum(u.cpu_percent for u in used))
    if asked.as_json:
        show.as_json({"processes": used, "total": total})
        return 0
    rows = [
        (one.name, one.pid or "", of_memory(one.pss_bytes), f"{one.cpu_percent:.0f} %")
        for one in (*used, total)
    ]
    show.table(("process", "pid", "memory (PSS)", "CPU"), rows, "No process runs.")
    return 0
