"""`brookbox routing`: look at routing.yaml, check it, test a destination, go back a version."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click

from appliance import bells
from appliance.amounts import count
from appliance.cli import show
from appliance.cli.asked import Asked, confirm, pass_asked, who
from appliance.cli.send import destination_of
from appliance.disk.layout import Layout
from appliance.index import events
from appliance.router import edit, routing_file
from appliance.router.rules import Routing, Rule


@click.group()
def routing() -> None:
    """The routing rules: show, check, test, history, restore."""


@routing.command(name="show")
@pass_asked
def show_routing(asked: Asked) -> None:
    """Show the destinations and the rules, in their order."""
    settings = asked.settings()
    found = routing_file.load(settings)
    if asked.as_json:
        show.as_json(_tree(found))
        return
    click.echo(f"{settings.routing_file}\n")
    columns = ("destination", "AE title", "host", "port", "calls as", "associations")
    rows = [
        (d.name, d.ae_title, d.host, d.port, d.own_ae_title, d.associations)
        for d in found.destinations.values()
    ]
    show.table(columns, rows, "There is no destination.")
    click.echo()
    headings = ("rule", "when", "sends", "to", "then")
    lines = [(r.name, _when(r), r.what, ", ".join(r.to), _then(r)) for r in found.rules]
    show.table(headings, lines, "There is no rule: nothing is sent.")


@routing.command()
@pass_asked
def check(asked: Asked) -> None:
    """Read routing.yaml and say every mistake, as file and line."""
    settings = asked.settings()
    found = routing_file.load(settings)
    if asked.as_json:
        show.as_json({"good": True, "file": settings.routing_file, "rules": len(found.rules)})
    elif settings.routing_file.is_file():
        click.echo(f"{settings.routing_file} is good: {counts_of(found)}.")
    else:
        click.echo(f"There is no {settings.routing_file}: nothing is sent.")


@routing.command()
@click.argument("name")
@pass_asked
def test(asked: Asked, name: str) -> int:
    """Connect to a destination, associate and echo."""
    from appliance.router.echo import test_destination

    settings = asked.settings()
    steps = test_destination(destination_of(name, settings, ""), settings)
    good = all(step.is_good for step in steps)
    if asked.as_json:
        show.as_json({"good": good, "steps": steps})
        return 0 if good else 1
    for step in steps:
        click.echo(f"{'ok' if step.is_good else 'failed':<7}{step.sentence} ({step.seconds:.2f} s)")
        if step.remedy:
            show.note(f"try: {step.remedy}")
    return 0 if good else 1


@routing.command()
@pass_asked
def history(asked: Asked) -> None:
    """List the versions that were saved, newest first."""
    found = edit.history(asked.settings())
    if asked.as_json:
        show.as_json(found)
        return
    rows = [(version.name, version.at, version.who, version.what) for version in found]
    show.table(("version", "when", "who", "what"), rows, "No version was saved yet.")


@routing.command()
@click.argument("version")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_asked
def restore(asked: Asked, version: str, yes: bool) -> None:
    """Put an older version into force again."""
    settings = asked.settings()
    edit.version_text(settings, version)
    confirm(f"Replace {settings.routing_file} by {version}?", yes=yes)
    now = datetime.now(UTC)
    what = edit.restore(settings, version, edit.load(settings).digest, who(), now)
    db = asked.open_index()
    with db.write() as connection:
        sentence = f"{who()} restored {version} of routing.yaml: {what}"
        events.append(connection, "routing changed", sentence, now, who=who())
    db.close()
    bells.ring(Layout(settings.data_root).run, "router")
    if asked.as_json:
        show.as_json({"version": version, "changed": what})
    else:
        click.echo(what)


def _when(rule: Rule) -> str:
    parts = [" or ".join(rule.outcome)]
    if rule.called:
        parts.append(f"called {rule.called.pattern}")
    if rule.calling:
        parts.append(f"calling {rule.calling.pattern}")
    for tests in rule.tags:
        parts.append(" and ".join(f"{test.name}={test.pattern.pattern}" for test in tests))
    return "; ".join(parts) if rule.enabled else f"off ({'; '.join(parts)})"


def _then(rule: Rule) -> str:
    return "stop" if rule.stop else "next rule"


def counts_of(found: Routing) -> str:
    """Say how many destinations and rules there are."""
    destinations = count(len(found.destinations), "destination")
    return f"{destinations}, {count(len(found.rules), 'rule')}"


def _tree(found: Routing) -> dict[str, object]:
    return {
        "digest": found.digest,
        "destinations": dict(found.destinations),
        "rules": [_plain(rule) for rule in found.rules],
    }


def _plain(rule: Rule) -> dict[str, object]:
    values: dict[str, object] = {name: getattr(rule, name) for name in Rule.__slots__}
    for name, value in values.items():
        if isinstance(value, re.Pattern):
            values[name] = value.pattern
    values["tags"] = [{test.name: test.pattern.pattern for test in tests} for tests in rule.tags]
    return values
