"""`brookbox up`: the whole node in the foreground, until Ctrl-C or SIGTERM.

It makes what is missing, starts supervisord and waits until the node answers, then
says in plain words what is there.  One that is killed takes everything with it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import click

from appliance.cli.asked import Asked, pass_asked
from appliance.cli.keeper import Keeper
from appliance.cli.prepare import in_child, prepare
from appliance.cli.service_manager import ServiceManager
from appliance.disk.layout import Layout
from appliance.errors import BrookboxError, DiskError, NodeError, explain
from appliance.health import answers, node_lock, who_runs
from appliance.lifecycle import Lifecycle
from appliance.settings import Settings
from appliance.streams import served

_LEFTOVER_SECONDS = 60.0
_READY_SECONDS = 60.0
_LONGEST_STOPPED_SECONDS = 60.0


@click.command()
@pass_asked
def up(asked: Asked) -> int:
    """Start the node in the foreground; Ctrl-C stops all of it."""
    begun = time.monotonic()
    manager = ServiceManager()
    settings = asked.good_settings()
    layout = Layout(settings.data_root)
    _make_folders(layout)
    _say(f"Starting the node in {layout.root}.")
    with node_lock.held(layout.run):
        node_lock.wait_for_leftovers(layout.root, _LEFTOVER_SECONDS)
        if not in_child(lambda: prepare(settings, _say), _complain):
            return 1
        return _run(settings, begun, manager)


def _run(settings: Settings, begun: float, manager: ServiceManager) -> int:
    layout = Layout(settings.data_root)
    lifecycle = Lifecycle()
    patience = min(settings.housekeeper.beat_seconds / 2, _LONGEST_STOPPED_SECONDS)
    keeper = Keeper(layout.run / "supervisord.conf", layout.root, lifecycle, patience)
    keeper.start()
    try:
        if missing := _wait_until_ready(settings, keeper, lifecycle):
            names = ", ".join(f"{name} ({why})" for name, why in missing.items())
            _say(f"Not ready after {_READY_SECONDS:.0f} s: {names}.")
            _say(f"try: brookbox doctor, and the logs in {layout.logs}")
            manager.ready(f"Not ready: {names}")
        elif not lifecycle.is_stopping:
            _say(f"Ready after {time.monotonic() - begun:.1f} s.")
            manager.ready("Receiving")
            in_child(lambda: _greet(settings), _complain)
        keeper.watch(lambda: _reload(settings), partial(_note, settings), _say)
    finally:
        manager.stopping()
        _say(
            "Stopping: what is being received gets up to 30 s to end; jobs that run are stopped, "
            "and run again when the node is started."
        )
        clean = keeper.stop()
        served.forget(layout.root)
        who_runs.forget(layout.run)
        _say("Stopped." if clean else "Stopped; what did not obey was killed.")
    return 0


def _wait_until_ready(settings: Settings, keeper: Keeper, lifecycle: Lifecycle) -> dict[str, str]:
    """Wait for the first answers; what does not answer in time is given, with the reason."""
    questions: dict[str, Callable[[Settings, float], str]] = {
        "receiver": answers.receiver_answers,
        "web": answers.web_answers,
        "gearmand": answers.gearmand_answers,
    }
    deadline = time.monotonic() + _READY_SECONDS
    missing = dict.fromkeys(questions, "")
    while not lifecycle.is_stopping and time.monotonic() < deadline:
        missing = {name: questions[name](settings, 2.0) for name in missing}
        missing = {name: why for name, why in missing.items() if why}
        if not missing:
            return {}
        if not keeper.is_alive():
            raise NodeError(
                "supervisord could not be started",
                remedy=f"read {Layout(settings.data_root).logs / 'supervisord.log'}",
            )
        lifecycle.sleep(0.1)
    return {} if lifecycle.is_stopping else missing


def _greet(settings: Settings) -> None:
    from appliance.cli.greeting import greeting

    for line in greeting(settings):
        _say(line)


def _reload(settings: Settings) -> None:
    from appliance.cli.config import reload_node

    try:
        for line in reload_node(settings).lines():
            _say(line)
    except BrookboxError as error:
        _complain(error)


def _note(settings: Settings, kind: str, sentence: str) -> None:
    """Say what was killed or died, and keep it among the events."""
    _say(sentence)
    in_child(lambda: _append_event(settings, kind, sentence), _complain)


def _append_event(settings: Settings, kind: str, sentence: str) -> None:
    from appliance.index import events
    from appliance.index.database import open_index

    db = open_index(settings)
    with db.write() as connection:
        events.append(connection, kind, sentence, datetime.now(UTC), who="brookbox up")
    db.close()


def _make_folders(layout: Layout) -> None:
    try:
        layout.make()
    except OSError as error:
        raise DiskError(
            f"the folders of {layout.root} cannot be made: {error.strerror} ({error.filename})",
            remedy=f"give it to the user that runs the node: chown -R USER {layout.root}",
        ) from error


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def _complain(error: BrookboxError) -> None:
    print(explain(error), file=sys.stderr, flush=True)
