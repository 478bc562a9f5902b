"""`brookbox housekeeper-confirm`: the clock is right, removal may go on."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked, who
from appliance.disk.layout import Layout
from appliance.housekeeper import clock
from appliance.index import events


@click.command(name="housekeeper-confirm")
@pass_asked
def confirm(asked: Asked) -> None:
    """Let the housekeeper remove again after the clock jumped."""
    run = Layout(asked.settings().data_root).run
    if not clock.confirm(run):
        _say(asked, "Removal was not stopped.", was_stopped=False)
        return
    db = asked.open_index()
    with db.write() as connection:
        sentence = f"{who()} confirmed that the clock is right."
        events.append(connection, "clock confirmed", sentence, datetime.now(UTC), who=who())
    db.close()
    _say(asked, "Removal goes on at the next sweep.", was_stopped=True)


def _say(asked: Asked, sentence: str, *, was_stopped: bool) -> None:
    if asked.as_json:
        show.as_json({"was_stopped": was_stopped})
    else:
        click.echo(sentence)
