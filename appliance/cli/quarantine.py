"""`brookbox quarantine`: what came and could not be kept, why, and what is done about it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance import logs
from appliance.amounts import count
from appliance.cli import show
from appliance.cli.asked import Asked, confirm, pass_asked, who
from appliance.dicom.statuses import store_status
from appliance.disk import quarantine as store
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Entry, Kind
from appliance.errors import BrookboxError
from appliance.index.database import Database

if TYPE_CHECKING:
    from appliance.health.side_by_side import Elements, Pair
    from appliance.intake.again import Again, Tried


@click.group()
def quarantine() -> None:
    """What could not be kept: list, show, get, retry, take-in, remove."""


@quarantine.command(name="list")
@click.option("--kind", type=click.Choice([str(kind) for kind in Kind]), help="Only this kind.")
@pass_asked
def list_entries(asked: Asked, kind: str | None) -> None:
    """List what is in quarantine, newest first."""
    everything = store.entries(Layout(asked.settings().data_root))
    found = [one for one in everything if kind is None or one.kind == kind]
    if asked.as_json:
        show.as_json(found)
        return
    columns = ("id", "when", "times", "last", "kind", "from", "to", "answered", "why")
    rows = [
        (
            one.id,
            one.received_at,
            one.times,
            one.last_at or "",
            one.kind,
            one.calling_ae_title,
            one.called_ae_title,
            f"0x{one.status:04X}",
            one.tried or one.reason,
        )
        for one in found
    ]
    empty = "Nothing of this kind is in quarantine." if kind else "Quarantine is empty."
    show.table(columns, rows, empty)


@quarantine.command(name="show")
@click.argument("id")
@pass_asked
def show_entry(asked: Asked, id: str) -> None:
    """Show one, where its file is, and its values beside those of what is kept."""
    layout = Layout(asked.settings().data_root)
    found, file = store.read(layout, id), store.file_of(layout, id)
    pairs, elements = _compared(asked, layout, found)
    if asked.as_json:
        facts = {name: getattr(found, name) for name in Entry.__slots__}
        values = [{"what": p.what, "kept": p.kept, "came": p.came, "differs": p.differs}
                  for p in pairs]  # fmt: skip
        show.as_json({**facts, "file": file, "side_by_side": values, "elements": elements})
        return
    left_out = ("status", "tries", "tried_at", "tried", "times", "last_at", "dataset_sha256")
    told = [(name, getattr(found, name)) for name in Entry.__slots__ if name not in left_out]
    told += [("answered", store_status(found.status)), ("file", file)]
    if found.last_at:
        told += [("it came", count(found.times, "time")), ("last came", found.last_at)]
    if found.tries:
        told += [("tried again", count(found.tries, "time")), ("last", found.tried_at)]
        told += [("it stays", found.tried)]
    show.facts(told)
    if pairs:
        click.echo()
        rows = [(p.what, p.kept, p.came, "differs" if p.differs else "") for p in pairs]
        show.table(("", "kept here", "came", ""), rows, "")
    if elements.pairs:
        click.echo()
        columns = ("element that differs", "kept here", "came")
        show.table(columns, [(p.what, p.kept, p.came) for p in elements.pairs], "")
        if elements.more:
            click.echo(f"and {elements.more} more")
    if elements.note:
        click.echo(elements.note)


@quarantine.command()
@click.argument("id")
@click.argument("file", type=click.Path(path_type=Path))
@pass_asked
def get(asked: Asked, id: str, file: Path) -> None:
    """Copy its bytes into a file, which must not be there yet."""
    layout = Layout(asked.settings().data_root)
    entry = store.read(layout, id)
    try:
        with store.file_of(layout, id).open("rb") as source, file.open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    if asked.as_json:
        show.as_json({"id": id, "file": file, "size_bytes": entry.size_bytes})
    else:
        click.echo(f"{file} holds it now.")


@quarantine.command()
@click.argument("ids", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that is there now.")
@pass_asked
def retry(asked: Asked, ids: tuple[str, ...], everything: bool) -> int:
    """Try one, several or all again, under the settings and streams of today."""
    if bool(ids) == everything:
        raise click.UsageError("Name what is to be tried again, or say --all.")
    settings = asked.settings()
    layout = Layout(settings.data_root)
    chosen = [one.id for one in store.entries(layout)][::-1] if everything else list(ids)
    for id in chosen if not everything else ():
        store.read(layout, id)
    tried = []
    with _again(asked) as again:
        for id in chosen:
            tried.append(_one(again, id))
            if not asked.as_json:
                _say(tried[-1])
    return _end(asked, tried)


@quarantine.command(name="take-in")
@click.argument("id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_asked
def take_in(asked: Asked, id: str, yes: bool) -> int:
    """Take a held one in all the same: its patient or study is another, and a person has looked."""
    entry = store.read(Layout(asked.settings().data_root), id)
    if entry.kind is Kind.HELD:
        confirm(f"{entry.reason} Take it in all the same?", yes=yes)
    with _again(asked) as again:
        tried = again.try_again(id, datetime.now(UTC), accept_identity=True)
    if not asked.as_json:
        _say(tried)
    return _end(asked, [tried])


@quarantine.command()
@click.argument("ids", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that is in quarantine now.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_asked
def remove(asked: Asked, ids: tuple[str, ...], everything: bool, yes: bool) -> None:
    """Remove one, several or all for good."""
    if bool(ids) == everything:
        raise click.UsageError("Name what is to be removed, or say --all.")
    layout = Layout(asked.settings().data_root)
    found = store.entries(layout) if everything else [store.read(layout, id) for id in ids]
    if found:
        _remove(asked, layout, found, yes)
    if asked.as_json:
        show.as_json({"removed": [entry.id for entry in found]})
    else:
        click.echo(f"Removed from quarantine: {count(len(found), 'file')}.")


def _remove(asked: Asked, layout: Layout, found: list[Entry], yes: bool) -> None:
    from appliance.intake import again

    one = found[0].sop_instance_uid or found[0].id
    what = show.printable(one) if len(found) == 1 else count(len(found), "file")
    held = sum(entry.kind is Kind.HELD for entry in found)
    waits = f" ({held} of them held for a person to decide)" if held and len(found) > 1 else ""
    confirm(f"Remove {what}{waits} for good?", yes=yes)
    logs.set_up("quarantine", "error")
    with _index(asked) as db:
        again.remove(db, layout, [entry.id for entry in found], who(), datetime.now(UTC))


def _compared(asked: Asked, layout: Layout, entry: Entry) -> tuple[tuple[Pair, ...], Elements]:
    """Compare with what is kept, if the index can be asked just now."""
    from appliance.health.side_by_side import Elements, differing, side_by_side

    try:
        with _index(asked) as db:
            return side_by_side(db, layout, entry), differing(db, layout, entry)
    except BrookboxError as error:
        show.note(f"What is kept cannot be compared with it: {error}.")
        return (), Elements()


def _one(again: Again, id: str) -> Tried:
    """Try one of several: what hinders one must not keep the others from their turn."""
    from appliance.intake.again import Tried

    try:
        return again.try_again(id, datetime.now(UTC))
    except BrookboxError as error:
        return Tried(id, False, str(error), error.remedy)


def _say(tried: Tried) -> None:
    state = "kept" if tried.is_kept else "stays"
    click.echo(f"{state:<6}{tried.id}: {show.printable(tried.sentence)}")
    if tried.remedy and not tried.is_kept:
        show.note(f"try: {tried.remedy}")


def _end(asked: Asked, tried: list[Tried]) -> int:
    if asked.as_json:
        show.as_json(tried)
    elif not tried:
        click.echo("Quarantine is empty.")
    return 0 if all(one.is_kept for one in tried) else 1


@contextlib.contextmanager
def _again(asked: Asked) -> Iterator[Again]:
    from appliance.intake.again import Again
    from appliance.streams.catalog import streams_of

    settings = asked.settings()
    logs.set_up("quarantine", "error")  # what came of it is the answer
    with _index(asked) as db:
        yield Again(db, Layout(settings.data_root), settings, streams_of(settings), who())


@contextlib.contextmanager
def _index(asked: Asked) -> Iterator[Database]:
    db = asked.open_index()
    try:
        yield db
    finally:
        db.close()
