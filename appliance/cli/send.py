"""`brookbox send`: echo another DICOM node, or send files to it, without any job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.amounts import count
from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked
from appliance.errors import NotFound
from appliance.router.rules import Destination
from appliance.settings import Settings

if TYPE_CHECKING:
    from appliance.router.store_scu import Result

_NAMED = 3  # files of one reason


@click.group()
def send() -> None:
    """Send to another DICOM node: echo, store."""


@send.command()
@click.argument("to", metavar="AE@HOST:PORT")
@click.option("--calling", default="", help="The AE title to call as; the node's own by default.")
@pass_asked
def echo(asked: Asked, to: str, calling: str) -> int:
    """Verify another node: connection, association, C-ECHO.

    It is written as AE@HOST:PORT, or as the name of a destination in routing.yaml.
    """
    from appliance.router.echo import test_destination

    settings = asked.settings()
    steps = test_destination(destination_of(to, settings, calling), settings)
    good = all(step.is_good for step in steps)
    if asked.as_json:
        show.as_json({"good": good, "steps": steps})
        return 0 if good else 1
    for step in steps:
        click.echo(f"{'ok' if step.is_good else 'failed':<7}{step.sentence}")
        if step.remedy:
            click.echo(f"try: {step.remedy}", err=True)
    return 0 if good else 1


@send.command()
@click.argument("to", metavar="AE@HOST:PORT")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--calling", default="", help="The AE title to call as; the node's own by default.")
@pass_asked
def store(asked: Asked, to: str, paths: tuple[Path, ...], calling: str) -> int:
    """Send files, or all files of folders, to another node.

    Each goes as it is; one whose transfer syntax the node does not take is decoded.
    """
    from appliance.cli import send_progress
    from appliance.router.send_files import send_files
    from appliance.router.store_scu import SENT, WARNING

    settings = asked.settings()
    files = list(_files(paths))
    destination = destination_of(to, settings, calling)
    with send_progress.shown(len(files), quiet=asked.as_json) as progress:
        results = send_files(files, destination, settings, on_progress=progress.note)
    failed = [one for one in results if one.kind not in (SENT, WARNING)]
    if asked.as_json:
        show.as_json(results)
        return 1 if failed or not files else 0
    if not files:
        show.note(f"There is no file in {', '.join(str(path) for path in paths)}.")
        return 1
    for line in _reasons(failed):
        show.note(line)
    were = "was" if len(results) - len(failed) == 1 else "were"
    sent = f"{len(results) - len(failed)} of {count(len(results), 'file')} {were} sent"
    click.echo(f"{sent} to {destination}: {progress.summary()}")
    return 1 if failed else 0


def _reasons(failed: Sequence[Result]) -> Iterator[str]:
    """Say of each file why it was not sent; many with one reason share a line."""
    files: dict[str, list[Path]] = {}
    for one in failed:
        files.setdefault(one.sentence, []).append(one.outgoing.path)
    for sentence, paths in files.items():
        some = ", ".join(str(path) for path in paths[:_NAMED])
        others = len(paths) - _NAMED
        more = f" and {count(others, 'other file')}" if others > 0 else ""
        yield f"{some}{more}: {show.printable(sentence)}"


def destination_of(to: str, settings: Settings, calling: str) -> Destination:
    """Read AE@HOST:PORT, or the name of a destination; UsageError when it is neither."""
    own = calling or settings.node.ae_title
    ae_title, at, place = to.rpartition("@")
    host, colon, port = place.rpartition(":")
    if at and colon and port.isdigit():
        return Destination(
            name=to,
            ae_title=ae_title,
            host=host.strip("[]"),
            port=int(port),
            own_ae_title=own,
            association_timeout_seconds=settings.router.association_timeout_seconds,
            answer_timeout_seconds=settings.router.answer_timeout_seconds,
        )
    return _named(to, settings)


def _named(name: str, settings: Settings) -> Destination:
    from appliance.router.routing_file import load

    known = load(settings).destinations
    if name not in known:
        names = ", ".join(known) or "none"
        raise NotFound(
            f"{name} is neither AE@HOST:PORT nor a destination of {settings.routing_file}",
            remedy=f"write it as PACS@10.1.2.3:104, or name a destination ({names})",
        )
    return known[name]


def _files(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path
