"""`brookbox forget`: erase a patient or a study for good, and say what that does not reach."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from appliance.amounts import count, of_disk
from appliance.cli import show
from appliance.cli.asked import Asked, confirm, pass_asked, who
from appliance.disk import trash
from appliance.disk.layout import Layout
from appliance.erasure.act import Erased, Erasing, Preview, erasures_of
from appliance.erasure.reach import Beyond
from appliance.errors import DiskError, ErasureError, IndexUnavailable, NotFound
from appliance.index.database import Database
from appliance.index.extent import Subject
from appliance.index.tombstones import Tombstone

_SHOWN = 20


@click.command()
@click.option("--patient", default="", help="Patient ID (0010,0020), exactly as it is kept.")
@click.option("--study", default="", help="Study Instance UID.")
@click.option("--was-erased", is_flag=True, help="Only say whether it was erased here.")
@click.option("--finish", is_flag=True, help="Finish erasures that were killed in the middle.")
@click.option("--preview", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_asked
def forget(
    asked: Asked,
    patient: str,
    study: str,
    was_erased: bool,
    finish: bool,
    preview: bool,
    yes: bool,
) -> None:
    """Erase a patient or a study for good: images, results, jobs, logs, deliveries.

    The node may run meanwhile; writers wait while the index is written anew at the end.  What
    remains is a tombstone: a keyed hash, from which nobody learns whose it was.  What came again
    since, or comes later, is kept like anything new.
    """
    if bool(patient) + bool(study) + finish != 1 or (was_erased and finish):
        raise click.UsageError("Name one: --patient ID, --study UID, or --finish alone.")
    db = asked.open_index()
    try:
        erasing = Erasing(asked.settings(), db)
        if finish:
            _finish(asked, erasing)
            return
        subject = Subject("patient", patient) if patient else Subject("study", study)
        if was_erased:
            _answer(asked, db, subject)
        elif preview:
            _preview(asked, erasing, subject)
        else:
            _forget(asked, db, erasing, subject, yes)
    finally:
        db.close()


def _preview(asked: Asked, erasing: Erasing, subject: Subject) -> None:
    view = erasing.preview(subject, datetime.now(UTC))
    if asked.as_json:
        show.as_json(view)
        return
    _show(subject, view)
    for sentence in view.busy:
        click.echo(f"It cannot be erased just now: {sentence}.")
    _tell_beyond(view.beyond)


def _forget(asked: Asked, db: Database, erasing: Erasing, subject: Subject, yes: bool) -> None:
    now = datetime.now(UTC)
    # Before the look at what there is: a part of it may be on its way out already.
    finished = erasing.finish_all(now)
    view = erasing.preview(subject, now)
    if view.is_nothing:
        _nothing(asked, db, subject, finished)
        return
    if not asked.as_json:
        _tell_finished(finished)
        _show(subject, view)
    if view.busy:
        raise ErasureError(
            f"it cannot be erased while something of it goes on: {'; '.join(view.busy)}",
            remedy="wait for it; a job that waits or runs: brookbox jobs cancel ID",
        )
    confirm("Erase all of it for good?", yes=yes)
    done = _erase(asked, erasing, subject)
    if done is None:  # another call was faster
        _nothing(asked, db, subject, finished)
    elif asked.as_json:
        show.as_json({"erased": _plain(done), "finished": _ids(finished), "beyond": view.beyond})
    else:
        _tell(done, view.beyond)


def _erase(asked: Asked, erasing: Erasing, subject: Subject) -> Erased | None:
    try:
        return erasing.erase(subject, who(), datetime.now(UTC))
    except (IndexUnavailable, DiskError) as error:
        if not trash.begun(Layout(asked.settings().data_root)):
            raise
        raise ErasureError(
            f"the erasure has begun and is not finished: {error}",
            remedy="brookbox forget --finish (a running node does it, too); to find what keeps it: "
            "brookbox doctor",
        ) from error


def _finish(asked: Asked, erasing: Erasing) -> None:
    finished = erasing.finish_all(datetime.now(UTC))
    if asked.as_json:
        show.as_json({"finished": _ids(finished)})
    elif finished:
        _tell_finished(finished)
    else:
        click.echo("No erasure was left unfinished.")


def _nothing(asked: Asked, db: Database, subject: Subject, finished: list[Erased]) -> None:
    """Say that nothing of it is here: erased, or never known."""
    stones = _stones(asked, db, subject)
    if not stones:
        raise NotFound(
            f"nothing of this {subject.kind} is kept here",
            remedy="look at how it is written: brookbox jobs list, or the page Jobs",
        )
    if asked.as_json:
        show.as_json({"erased": None, "finished": _ids(finished), "before": _dates(stones)})
        return
    _tell_finished(finished)
    click.echo(f"Nothing of this {subject.kind} is here: {_said(stones[0])}")


def _answer(asked: Asked, db: Database, subject: Subject) -> None:
    stones = _stones(asked, db, subject)
    if asked.as_json:
        show.as_json({"was_erased": bool(stones), "erasures": _dates(stones)})
    elif stones:
        for one in stones:
            click.echo(f"Yes: {_said(one)}")
    else:
        click.echo(f"No erasure of this {subject.kind} is known here.")


def _stones(asked: Asked, db: Database, subject: Subject) -> list[Tombstone]:
    return erasures_of(db, Layout(asked.settings().data_root), subject.kind, subject.value)


def _said(stone: Tombstone) -> str:
    return (
        f"it was erased at {show.printable(stone.at)} UTC by {stone.who}, erasure {stone.erasure}."
    )


def _show(subject: Subject, view: Preview) -> None:
    """Show what would go, before anything is asked."""
    found = view.extent
    size = sum(one.size_bytes for one in found.studies)
    click.echo(
        f"This {subject.kind} has {count(len(found.studies), 'study')} with "
        f"{count(found.instances, 'instance')} ({of_disk(size)}), {count(len(found.jobs), 'job')}, "
        f"{count(found.deliveries, 'delivery')} ({found.open_deliveries} still to be sent), "
        f"{count(found.events, 'event')}, and {count(len(view.quarantine), 'file')} in quarantine."
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


def _tell(done: Erased, beyond: Beyond) -> None:
    click.echo(
        f"Erased: {count(done.studies, 'study')}, {count(done.instances, 'instance')}, "
        f"{count(done.jobs, 'job')}, {count(done.quarantine, 'file')} in quarantine; "
        f"{count(done.log_places, 'place')} in the logs overwritten. Erasure {done.id}."
    )
    _tell_beyond(beyond)


def _tell_beyond(beyond: Beyond) -> None:
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


def _tell_finished(finished: list[Erased]) -> None:
    for one in finished:
        click.echo(f"Erasure {one.id}, which had been killed in the middle, is finished.")


def _plain(done: Erased) -> dict[str, object]:
    """Give it without its subject: what is answered may be kept."""
    names = ("id", "studies", "instances", "jobs", "quarantine", "leftovers", "log_places")
    return {name: getattr(done, name) for name in names}


def _ids(finished: list[Erased]) -> list[str]:
    return [one.id for one in finished]


def _dates(stones: list[Tombstone]) -> list[dict[str, object]]:
    return [{"erasure": one.erasure, "at": one.at, "who": one.who} for one in stones]
