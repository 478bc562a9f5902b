"""`brookbox streams`: look at streams, make one, check one, get its image, run it by hand."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.amounts import count
from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked
from appliance.errors import BrookboxError, NotFound
from appliance.health.job_sentences import said
from appliance.health.node_checks import best_lanes
from appliance.index.lanes import Lane
from appliance.settings import Settings
from appliance.streams.catalog import Stream, read_stream, streams_of
from appliance.streams.grants import grants


@click.group()
def streams() -> None:
    """The streams: list, new, check, build, pull, load, run."""


@streams.command(name="list")
@pass_asked
def list_streams(asked: Asked) -> None:
    """List the streams, and whether each can run."""
    settings = asked.settings()
    found = streams_of(settings).all
    lanes = _lanes(asked)
    if asked.as_json:
        show.as_json([_tree(stream, lanes.get(stream.ae_title)) for stream in found])
        return
    rows = [
        (
            stream.ae_title,
            stream.folder.name,
            stream.info.version if stream.info else "",
            stream.info.image if stream.info else "",
            _state(stream, lanes.get(stream.ae_title)),
        )
        for stream in found
    ]
    columns = ("AE title", "folder", "version", "image", "state")
    show.table(columns, rows, f"There is no stream in {settings.streams_folder}.")


@streams.command()
@click.argument("name")
@click.option("--ae-title", default="", help="Its AE title; made from the name by default.")
@pass_asked
def new(asked: Asked, name: str, ae_title: str) -> None:
    """Make a folder to begin with: info.json, run.py, Dockerfile, a test."""
    from appliance.cli.stream_new import new_stream

    folder = new_stream(asked.settings().streams_folder, name, ae_title)
    if asked.as_json:
        show.as_json({"folder": folder})
        return
    click.echo(f"{folder} is there, switched off. Next:")
    click.echo(f"  edit {folder / 'run.py'} and {folder / 'info.json'}")
    click.echo(f"  brookbox streams build {folder}")
    click.echo(f"  brookbox streams run {folder} INPUT OUTPUT")
    click.echo('  set "enabled": 1 in info.json')


@streams.command()
@click.argument("which", metavar="[FOLDER]", required=False)
@pass_asked
def check(asked: Asked, which: str | None) -> int:
    """Say what is wrong with a stream's folder, and what it is granted; or of all of them."""
    from appliance.cli.docker_checks import missing_image

    settings = asked.settings()
    found = (_named(settings, which),) if which else streams_of(settings).all
    good = all(stream.is_good for stream in found)
    lanes = _lanes(asked)
    if asked.as_json:
        show.as_json([_tree(stream, _lane_of(stream, lanes, settings)) for stream in found])
        return 0 if good else 1
    for stream in found:
        if not stream.problems:
            click.echo(f"{stream.folder.name} is good (AE title {stream.ae_title}).")
        for problem in stream.problems:
            level = "wrong" if problem.stops else "warn"
            click.echo(f"{level:<6}{stream.folder.name}/{problem}")
        for sentence in _grants(stream, _lane_of(stream, lanes, settings)):
            click.echo(f"{'note':<6}{stream.folder.name}: {sentence}")
        if missing := missing_image(settings, stream):
            click.echo(f"{'note':<6}{stream.folder.name}: {missing}")
    return 0 if good else 1


@streams.command()
@click.argument("which", metavar="[STREAM]", required=False)
@click.option("--base", default="", help="Image to build the common ground on (streams/base).")
@click.option("--again", is_flag=True, help="Also when the image is there already.")
@pass_asked
def build(asked: Asked, which: str | None, base: str, again: bool) -> int:
    """Build the image of a stream, or of every stream whose image is missing."""
    from appliance.cli.stream_images import build_images

    settings = asked.settings()
    chosen = [_named(settings, which)] if which else streams_of(settings).serving()
    return build_images(asked, settings, chosen, base, again=again or which is not None)


@streams.command()
@click.argument("which", metavar="STREAM|IMAGE")
@pass_asked
def pull(asked: Asked, which: str) -> int:
    """Fetch the image of a stream from its registry."""
    from appliance.cli.stream_images import pull_image

    settings = asked.settings()
    named = streams_of(settings).all
    info = next((s.info for s in named if s.info and which in (s.ae_title, s.folder.name)), None)
    return pull_image(asked, settings, info.image if info and info.image else which)


@streams.command()
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@pass_asked
def load(asked: Asked, archive: Path) -> int:
    """Load images from a file that docker save made."""
    from appliance.cli.stream_images import load_images

    return load_images(asked, asked.settings(), archive)


@streams.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("source", metavar="INPUT", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(file_okay=False, path_type=Path))
@pass_asked
def run(asked: Asked, folder: Path, source: Path, output: Path) -> int:
    """Run a stream over a folder of DICOM files, exactly as the node would."""
    from appliance.cli.stream_run import run_stream

    ran = run_stream(asked.settings(), folder, source, output, quiet=asked.as_json)
    if asked.as_json:
        show.as_json(ran)
        return 0 if ran.state == "succeeded" else 1
    way = f"in {ran.image}" if ran.image else "as a plain process"
    why = said(ran.reason, ran.message)
    click.echo(f"It {ran.state} {way} after {ran.seconds} s. {why}".rstrip())
    if ran.remedy:
        show.note(f"try: {ran.remedy}")
    results = count(len(ran.results), "result")
    click.echo(f"{results} and {count(len(ran.others), 'other file')} are in {output}.")
    return 0 if ran.state == "succeeded" else 1


def _lanes(asked: Asked) -> dict[str, Lane]:
    """Ask the index what the workers say; nothing when there is no node yet."""
    try:
        db = asked.open_index()
        try:
            return best_lanes(db)
        finally:
            db.close()
    except BrookboxError:
        return {}


def _lane_of(stream: Stream, lanes: dict[str, Lane], settings: Settings) -> Lane | None:
    """Give the lane of a stream of the node; a folder elsewhere has none."""
    is_ours = stream.folder.parent == settings.streams_folder
    return lanes.get(stream.ae_title) if is_ours else None


def _grants(stream: Stream, lane: Lane | None) -> tuple[str, ...]:
    if lane is None or not lane.is_open:
        return grants(stream, "", is_confined=False)
    return grants(stream, lane.executor, is_confined=lane.is_confined)


def _state(stream: Stream, lane: Lane | None) -> str:
    stops = [str(problem) for problem in stream.problems if problem.stops]
    if stops:
        return f"does not serve: {'; '.join(stops)}"
    if not stream.is_enabled:
        return "off (enabled is 0)"
    if lane is None:
        return "good; no worker serves it now"
    return f"can run ({lane.executor})" if lane.is_open else f"its jobs wait: {lane.why_not}"


def _tree(stream: Stream, lane: Lane | None) -> dict[str, object]:
    info = stream.info
    return {
        "ae_title": stream.ae_title,
        "folder": stream.folder,
        "good": stream.is_good,
        "enabled": stream.is_enabled,
        "contract": stream.contract,
        "problems": [str(problem) for problem in stream.problems],
        "info": info.model_dump(mode="json", by_alias=True) if info else None,
        "grants": _grants(stream, lane),
        "lane": lane,
    }


def _named(settings: Settings, which: str) -> Stream:
    """Find a stream by AE title, by the name of its folder, or by its path."""
    known = streams_of(settings)
    path = Path(which).absolute()
    for one in known.all:
        # Also by its path: one of the node's is judged beside the others (a doubled AE title).
        if one.folder == path or which in (one.ae_title, one.folder.name):
            return one
    if path.is_dir():
        return read_stream(path, settings.node.ae_title)
    raise NotFound(f"there is no stream {which}", remedy="brookbox streams list")
