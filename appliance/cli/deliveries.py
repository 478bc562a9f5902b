"""`brookbox deliveries`: where results went, what became of each instance, send again."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from appliance import bells
from appliance.amounts import count
from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked, who
from appliance.disk.layout import Layout
from appliance.index import deliveries as index
from appliance.index import events, unknown_sends
from appliance.index.states import DeliveryState


@click.group()
def deliveries() -> None:
    """The deliveries: list, show, resend, route-again."""


@deliveries.command(name="list")
@click.option("--state", multiple=True, type=click.Choice([str(s) for s in DeliveryState]))
@click.option("--destination", default="", help="Name of the destination.")
@click.option("--limit", default=50, show_default=True, help="How many, newest first.")
@pass_asked
def list_deliveries(asked: Asked, state: tuple[str, ...], destination: str, limit: int) -> None:
    """List deliveries, newest first."""
    db = asked.open_index()
    with db.read() as connection:
        found = index.deliveries_in(connection, state, limit, destination)
    db.close()
    if asked.as_json:
        show.as_json(found)
        return
    columns = ("delivery", "job", "to", "what", "state", "due", "attempt", "message")
    rows = [
        (d.id, d.job_id, d.destination, d.what, d.state, d.due_at, d.attempt, d.message)
        for d in found
    ]
    is_filtered = bool(state or destination)
    show.table(columns, rows, show.nothing_of("delivery", is_filtered=is_filtered))


@deliveries.command(name="show")
@click.argument("delivery_id", type=int)
@pass_asked
def show_delivery(asked: Asked, delivery_id: int) -> None:
    """Show one delivery, and what became of each instance."""
    db = asked.open_index()
    with db.read() as connection:
        delivery = index.get(connection, delivery_id)
        sent = index.instances_of(connection, delivery_id)
    db.close()
    if asked.as_json:
        show.as_json({"delivery": delivery, "instances": sent})
        return
    show.facts(
        [
            ("delivery", delivery.id),
            ("job", delivery.job_id),
            ("to", delivery.destination),
            ("what", delivery.what),
            ("rule", delivery.rule),
            ("state", delivery.state),
            ("due", delivery.due_at if delivery.state == DeliveryState.DUE else ""),
            ("attempts", delivery.attempt),
            ("ended", delivery.ended_at),
            ("message", delivery.message),
            ("try", delivery.remedy),
        ]
    )
    click.echo()
    rows = [
        (s.sop_instance_uid, s.state, "" if s.status is None else f"0x{s.status:04X}", s.message)
        for s in sent
    ]
    columns = ("SOP Instance UID", "state", "status", "message")
    show.table(columns, rows, "It holds no instance.")


@deliveries.command()
@click.argument("delivery_id", type=int)
@click.option("--all", "all_instances", is_flag=True, help="Also what was sent already.")
@pass_asked
def resend(asked: Asked, delivery_id: int, all_instances: bool) -> None:
    """Send again what failed, now."""
    now = datetime.now(UTC)
    db = asked.open_index()
    index.resend(db, delivery_id, now, all_instances=all_instances)
    with db.write() as connection:
        delivery = index.get(connection, delivery_id)
        sentence = f"{who()} had delivery {delivery_id} to {delivery.destination} sent again."
        events.append(
            connection, "delivery resent", sentence, now, who=who(), job_id=delivery.job_id
        )
    db.close()
    bells.ring(Layout(asked.settings().data_root).run, "router")
    if asked.as_json:
        show.as_json(delivery)
    else:
        click.echo(f"Delivery {delivery_id} to {delivery.destination} is due now.")


@deliveries.command(name="route-again")
@click.argument("job_ids", type=int, nargs=-1, metavar="[JOB_ID]...")
@click.option(
    "--unknown", is_flag=True, help="All jobs of which nobody knows whether they were sent."
)
@click.option("--since", type=click.DateTime(), help="Of these, what ended since then (UTC).")
@pass_asked
def route_again(
    asked: Asked, job_ids: tuple[int, ...], unknown: bool, since: datetime | None
) -> None:
    """Send the results of ended jobs by the rules of today, as if they had just ended.

    For what a restore or a rebuild names.  What a delivery has already is not sent twice.
    """
    if bool(job_ids) == unknown or (since and not unknown):
        raise click.UsageError("name jobs, or --unknown (and with it --since)")
    now = datetime.now(UTC)
    db = asked.open_index()
    if unknown:
        with db.read() as connection:
            from_then = since.replace(tzinfo=UTC) if since else None
            job_ids = tuple(unknown_sends.unknown_jobs(connection, from_then))
    unknown_sends.route_again(db, job_ids, who(), now)
    db.close()
    bells.ring(Layout(asked.settings().data_root).run, "router")
    if asked.as_json:
        show.as_json({"jobs": job_ids})
    elif job_ids:
        click.echo(f"The router looks at {count(len(job_ids), 'job')} again.")
    else:
        click.echo("There is no job of which it is not known.")
