"""What `brookbox forget` says to a person: what would go, what went, what is not reached."""

from __future__ import annotations

import click

from appliance.amounts import count, of_disk
from appliance.cli import show
from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.erasure.act import Erased, Preview
from appliance.erasure.reach import Beyond
from appliance.errors import NotFound
from appliance.index.extent import Extent, Subject

_SHOWN = 20


def show_preview(layout: Layout, subject: Subject, view: Preview) -> None:
    """Show what would go, before anything is asked, and what would not."""
    if view.extent.is_nothing:
        click.echo(f"Nothing of this {subject.kind} is in the index.")
    else:
        _show_indexed(subject, view.extent)
    if view.quarantine:
        click.echo(f"{count(len(view.quarantine), 'file')} of it in quarantine:")
        _list_quarantined(layout, view.quarantine)
    if view.leftovers:
        click.echo(f"{count(view.leftovers, 'file')} of it that a process left half-way.")
    if view.staying:
        click.echo(_said_staying(view.staying))
        _list_quarantined(layout, view.staying)


def _list_quarantined(layout: Layout, ids: tuple[str, ...]) -> None:
    for id in ids[:_SHOWN]:
        try:
            one = quarantine.read(layout, id)
        except NotFound:
            click.echo(f"  {id}: nothing is written of it")
        else:
            sender = f"from {one.calling_ae_title}, " if one.calling_ae_title else ""
            click.echo(show.printable(f"  {id}: {sender}{one.kind}. {one.reason}"))
    if len(ids) > _SHOWN:
        click.echo(f"  and {len(ids) - _SHOWN} more")


def _said_staying(ids: tuple[str, ...]) -> str:
    return (
        f"Quarantine keeps {count(len(ids), 'file')} with UIDs of it, for naming another patient "
        "or another study (to look: brookbox quarantine show ID; to remove: "
        "brookbox quarantine remove ID):"
    )


def _show_indexed(subject: Subject, found: Extent) -> None:
    size = sum(one.size_bytes for one in found.studies)
    click.echo(
        f"This {subject.kind} has {count(len(found.studies), 'study')} with "
        f"{count(found.instances, 'instance')} ({of_disk(size)}), {count(len(found.jobs), 'job')}, "
        f"{count(found.deliveries, 'delivery')} ({found.open_deliveries} still to be sent) and "
        f"{count(found.events, 'event')}."
    )
    names = sorted({one.patient_name for one in found.studies if not one.is_made} - {""})
    if subject.kind == "patient" and len(names) > 1:
        click.echo(f"It stands under several names: {show.printable('; '.join(names))}.")
    for one in found.studies[:_SHOWN]:
        made = (
            " (results of the others only, under a study UID of their own)" if one.is_made else ""
        )
        click.echo(f"  {one.study_uid}: {count(one.instances, 'instance')}{made}")
    if len(found.studies) > _SHOWN:
        click.echo(f"  and {len(found.studies) - _SHOWN} more")
    others = sorted({(one.study_uid, one.job_id) for one in found.results})
    if others:
        click.echo("Results that were made of it go too, the rest of their studies stays:")
    for uid, job in others:
        made_of = [one for one in found.results if (one.study_uid, one.job_id) == (uid, job)]
        click.echo(f"  {uid}: {count(len(made_of), 'instance')} that job {job} made")
    for job in found.makers:
        click.echo(f"OUTPUT of job {job}, which made some of it of another study, goes too.")


def tell(layout: Layout, done: Erased, beyond: Beyond) -> None:
    """Say what went, what did not, and where else it may be."""
    click.echo(
        f"Erased: {count(done.studies, 'study')}, {count(done.instances, 'instance')}, "
        f"{count(done.jobs, 'job')}, {count(done.quarantine, 'file')} in quarantine; "
        f"{count(done.log_places, 'place')} in the logs overwritten. Erasure {done.id}."
    )
    if done.staying:
        click.echo(_said_staying(done.staying))
        _list_quarantined(layout, done.staying)
    tell_beyond(beyond)


def tell_beyond(beyond: Beyond) -> None:
    """Say what the erasure does not reach."""
    click.echo("What that does not reach:")
    for path in beyond.backups:
        click.echo(f"  made before: {path}")
    for to in beyond.destinations:
        perhaps = f", perhaps {to.perhaps} more: it was being sent" if to.perhaps else ""
        click.echo(f"  {to.destination} received {count(to.instances, 'instance')}{perhaps}")
    for one in beyond.senders:
        instances = count(one.instances, "instance")
        click.echo(f"  {one.calling_ae_title} at {one.address} sent {instances}, and may keep it")
    for other in beyond.others:
        click.echo(f"  {other}")


def tell_finished(finished: list[Erased]) -> None:
    """Say which erasures of before have ended now."""
    for one in finished:
        click.echo(f"Erasure {one.id}, which had been killed in the middle, is finished.")
        if one.staying:
            click.echo(f"{_said_staying(one.staying)} {', '.join(one.staying)}")
