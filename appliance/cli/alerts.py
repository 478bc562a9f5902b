"""`brookbox alerts`: what is wrong with the node, and whether telling of it works."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked
from appliance.errors import SettingsError
from appliance.health import tell
from appliance.health.tell import Message
from appliance.index import alerts as index


@click.group(invoke_without_command=True)
@click.pass_context
def alerts(ctx: click.Context) -> None:
    """The alerts: list, test."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_alerts)


@alerts.command(name="list")
@click.option("--ended", default=0, help="Also so many that are over, newest first.")
@pass_asked
def list_alerts(asked: Asked, ended: int = 0) -> None:
    """List what is wrong now."""
    db = asked.open_index()
    with db.read() as connection:
        is_open = index.open_alerts(connection)
        over = index.ended(connection, ended) if ended > 0 else []
    db.close()
    if asked.as_json:
        show.as_json({"open": is_open, "ended": over})
        return
    rows = [(a.began_at, a.kind, a.subject, a.sentence, a.remedy, a.told_at) for a in is_open]
    columns = ("since", "kind", "subject", "what", "try", "told")
    show.table(columns, rows, "Nothing is wrong that the node knows of.")
    if over:
        click.echo()
        gone = [(a.ended_at, a.kind, a.subject, a.sentence) for a in over]
        show.table(("ended", "kind", "subject", "what"), gone, "")


@alerts.command()
@pass_asked
def test(asked: Asked) -> int:
    """Send a test message by each way that the settings name."""
    settings = asked.settings()
    ways = tell.ways(settings)
    if not ways:
        raise SettingsError(
            "no way is set by which alerts could be told, beyond the log and the pages",
            remedy="set alerts.webhook_url, or alerts.mail_host with mail_from and mail_to",
        )
    message = Message(
        node=settings.node.ae_title,
        state="test",
        kind="test",
        subject="test",
        sentence="This is a test of the node's alerts; nothing is wrong.",
        remedy="",
        began_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    failed = {name: why for name, way in ways.items() if (why := way(message))}
    if asked.as_json:
        show.as_json({name: failed.get(name, "") for name in ways})
    else:
        for name in ways:
            click.echo(f"{name}: {failed.get(name, 'taken')}")
    return 1 if failed else 0
