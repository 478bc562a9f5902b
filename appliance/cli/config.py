"""`brookbox config`: look at the settings, and have a running node read them again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click

from appliance import settings_file
from appliance.cli import show, supervisord_conf
from appliance.cli.asked import Asked, pass_asked
from appliance.cli.in_force import as_tree, read_in_force, write_in_force
from appliance.disk.layout import Layout
from appliance.errors import NodeError
from appliance.health import node_lock, supervisor
from appliance.receiver import tls
from appliance.settings import Settings
from appliance.settings_declared import declared


@dataclass(frozen=True, slots=True)
class Reload:
    """What a reload did: which processes were told, what changed, what waits."""

    told: tuple[str, ...]
    changed: tuple[str, ...]
    waiting_for_restart: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Say it to a person."""
        if not self.changed and not self.waiting_for_restart:
            yield "Nothing changed."
        if self.changed:
            yield f"In force within a second: {', '.join(self.changed)}."
        if self.waiting_for_restart:
            yield f"Waits until the node is started again: {', '.join(self.waiting_for_restart)}."


@click.group()
def config() -> None:
    """The settings: check, show, sample, reload."""


@config.command()
@pass_asked
def check(asked: Asked) -> None:
    """Read the settings and say every mistake, as file and line."""
    settings = asked.good_settings()
    tls.context_of(settings)
    if asked.as_json:
        show.as_json({"good": True, "file": settings.source})
    elif settings.source:
        click.echo(f"{settings.source} is good.")
    else:
        click.echo("There is no settings file: everything is at its default.")


@config.command(name="show")
@click.option("--changed", is_flag=True, help="Only what differs from the default.")
@pass_asked
def show_settings(asked: Asked, changed: bool) -> None:
    """Show every setting, its value and its help."""
    settings = asked.good_settings()
    if asked.as_json:
        show.as_json(as_tree(settings))
        return
    rows = []
    for one in declared():
        value = getattr(getattr(settings, one.section), one.name)
        if value != one.default or not changed:
            mark = "" if value == one.default else "changed"
            rows.append((one.path, value, mark, "live" if one.live else "restart", one.help))
    columns = ("setting", "value", "", "changes", "help")
    show.table(columns, rows, "Every setting is at its default.")


@config.command()
@click.option("--supervisord", is_flag=True, help="What brookbox up makes for supervisord.")
@pass_asked
def sample(asked: Asked, supervisord: bool) -> None:
    """Print a settings file that lists everything at its default."""
    text = supervisord_conf.sample() if supervisord else settings_file.sample()
    if asked.as_json:
        show.as_json({"sample": text})
    else:
        click.echo(text, nl=False)


@config.command()
@pass_asked
def reload(asked: Asked) -> None:
    """Have the running node read its settings again; a broken file changes nothing."""
    done = reload_node(asked.good_settings())
    if asked.as_json:
        show.as_json(done)
        return
    for line in done.lines():
        click.echo(line)


def reload_node(settings: Settings) -> Reload:
    """Tell every process to read the settings, unless they are wrong; say what comes of it.

    Raises SettingsError for a broken file, NodeError when the node does not run.
    """
    new = settings_file.load(settings.source, settings.home)
    run = Layout(settings.data_root).run
    if node_lock.holder(run) is None:
        raise NodeError("the node does not run, so nothing has to be read", remedy="brookbox up")
    old = read_in_force(settings) or new
    live, restart = settings_file.changes(old, new)
    told = supervisor.signal_group(run, "HUP") if live else []
    write_in_force(settings_file.with_live_changes(old, new))
    return Reload(tuple(told), tuple(live), tuple(restart))
