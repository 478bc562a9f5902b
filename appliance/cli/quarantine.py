"""`brookbox quarantine`: what came and could not be kept, and why."""

from __future__ import annotations

import click

from appliance.amounts import count
from appliance.cli import show
from appliance.cli.asked import Asked, confirm, pass_asked
from appliance.disk import quarantine as store
from appliance.disk.layout import Layout


@click.group()
def quarantine() -> None:
    """What could not be kept: list, show, remove."""


@quarantine.command(name="list")
@pass_asked
def list_entries(asked: Asked) -> None:
    """List what is in quarantine, newest first."""
    found = store.entries(Layout(asked.settings().data_root))
    if asked.as_json:
        show.as_json(found)
        return
    columns = ("id", "when", "from", "to", "answered", "why")
    rows = [
        (
            one.id,
            one.received_at,
            one.calling_ae_title,
            one.called_ae_title,
            f"0x{one.status:04X}",
            one.reason,
        )
        for one in found
    ]
    show.table(columns, rows, "Quarantine is empty.")


@quarantine.command(name="show")
@click.argument("id")
@pass_asked
def show_entry(asked: Asked, id: str) -> None:
    """Show one, and where its file is."""
    layout = Layout(asked.settings().data_root)
    found = store.read(layout, id)
    if asked.as_json:
        show.as_json(found)
        return
    pairs = [(name, getattr(found, name)) for name in store.Entry.__slots__ if name != "status"]
    show.facts([*pairs, ("answered", f"0x{found.status:04X}"), ("file", store.file_of(layout, id))])


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
        one = found[0].sop_instance_uid or found[0].id
        what = one if len(found) == 1 else count(len(found), "file")
        confirm(f"Remove {what} for good?", yes=yes)
    for entry in found:
        store.remove(layout, entry.id)
    if asked.as_json:
        show.as_json({"removed": [entry.id for entry in found]})
    else:
        click.echo(f"Removed from quarantine: {count(len(found), 'file')}.")
