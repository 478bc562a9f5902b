"""`brookbox forget`: erase a patient or a study for good, and say what that does not reach."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from appliance.cli import show
from appliance.cli.asked import Asked, confirm, pass_asked, who
from appliance.cli.forget_words import show_preview, tell, tell_beyond, tell_finished
from appliance.disk import trash
from appliance.disk.layout import Layout
from appliance.erasure.act import Erased, Erasing, erasures_of
from appliance.errors import DiskError, ErasureError, IndexUnavailable, NotFound
from appliance.index.database import Database
from appliance.index.extent import Subject
from appliance.index.tombstones import Tombstone


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
    show_preview(_layout(asked), subject, view)
    for sentence in view.busy:
        click.echo(f"It cannot be erased just now: {sentence}.")
    tell_beyond(view.beyond)


def _forget(asked: Asked, db: Database, erasing: Erasing, subject: Subject, yes: bool) -> None:
    now = datetime.now(UTC)
    # Before the look at what there is: a part of it may be on its way out already.
    finished = erasing.finish_all(now)
    view = erasing.preview(subject, now)
    if view.is_nothing:
        _nothing(asked, db, subject, finished)
        return
    if not asked.as_json:
        tell_finished(finished)
        show_preview(_layout(asked), subject, view)
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
        tell(_layout(asked), done, view.beyond)


def _erase(asked: Asked, erasing: Erasing, subject: Subject) -> Erased | None:
    try:
        return erasing.erase(subject, who(), datetime.now(UTC))
    except (IndexUnavailable, DiskError) as error:
        if not trash.begun(_layout(asked)):
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
        tell_finished(finished)
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
    tell_finished(finished)
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
    return erasures_of(db, _layout(asked), subject.kind, subject.value)


def _layout(asked: Asked) -> Layout:
    return Layout(asked.settings().data_root)


def _said(stone: Tombstone) -> str:
    return (
        f"it was erased at {show.printable(stone.at)} UTC by {stone.who}, erasure {stone.erasure}."
    )


def _plain(done: Erased) -> dict[str, object]:
    """Give it without its subject: what is answered may be kept."""
    names = (
        "id", "studies", "instances", "jobs", "quarantine", "staying", "leftovers", "log_places"
    )  # fmt: skip
    return {name: getattr(done, name) for name in names}


def _ids(finished: list[Erased]) -> list[str]:
    return [one.id for one in finished]


def _dates(stones: list[Tombstone]) -> list[dict[str, object]]:
    return [{"erasure": one.erasure, "at": one.at, "who": one.who} for one in stones]
