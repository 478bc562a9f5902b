"""`brookbox streams build|pull|load`: get images, and show how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from appliance.cli import show
from appliance.cli.asked import Asked
from appliance.errors import StreamError, explain
from appliance.settings import Settings
from appliance.streams.catalog import Stream
from appliance.streams.shipped import shipped_folder
from appliance.worker import ground, images
from appliance.worker.container import Docker
from appliance.worker.images import Progress


def build_images(
    asked: Asked, settings: Settings, streams: Sequence[Stream], base: str, *, again: bool
) -> int:
    """Build the images of streams; those that are there only `again`.

    One that fails does not keep the others from being built.
    """
    docker = Docker(settings.worker.docker_url)
    base_folder = _base_folder(settings)
    done: list[str] = []
    if base:
        _follow(asked, ground.build_ground(docker, base_folder, base))
        done.append(images.BASE_IMAGE)
    failed: list[dict[str, str]] = []
    for stream in streams:
        try:
            image = _image_to_build(docker, stream, again, is_alone=len(streams) == 1)
            if image:
                _follow(asked, ground.build(docker, stream.folder, image, base_folder))
                done.append(image)
        except StreamError as error:
            if len(streams) == 1:
                raise
            failed.append({"error": str(error), "remedy": error.remedy})
            show.note(explain(error))
    if asked.as_json:
        show.as_json({"built": done, "failed": failed})
    else:
        nothing = "Nothing was built." if failed else "Every image is there already."
        _say(asked, "built", done, nothing)
    return 1 if failed else 0


def _image_to_build(docker: Docker, stream: Stream, again: bool, *, is_alone: bool) -> str:
    """Name the image to build; "" when there is nothing to do."""
    if stream.info is None or not stream.info.image:
        if not is_alone:
            return ""
        raise StreamError(
            f"{stream.folder} names no image", remedy=f"brookbox streams check {stream.folder}"
        )
    if not is_alone and not (stream.folder / "Dockerfile").is_file():
        return ""
    image = stream.info.image
    return image if again or docker.image(image) is None else ""


def pull_image(asked: Asked, settings: Settings, image: str) -> int:
    """Fetch one image."""
    _follow(asked, images.pull(Docker(settings.worker.docker_url), image))
    _say(asked, "pulled", [image], "")
    return 0


def load_images(asked: Asked, settings: Settings, archive: Path) -> int:
    """Load the images of a file."""
    last = _follow(asked, images.load(Docker(settings.worker.docker_url), archive))
    _say(asked, "loaded", [line.removeprefix("Loaded image: ") for line in last], "")
    return 0


def _base_folder(settings: Settings) -> Path:
    """Find the common ground: the admin's own, else the one that comes with Brookbox."""
    own = settings.streams_folder / "base"
    return own if (own / "Dockerfile").is_file() else shipped_folder() / "base"


def _follow(asked: Asked, steps: Iterable[Progress]) -> list[str]:
    """Show each step on standard error; give the lines that name what was loaded."""
    if asked.as_json:
        return [step.line for step in steps if step.line.startswith("Loaded image")]
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn
    from rich.progress import Progress as Bar

    loaded = []
    parts = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bar(*parts, console=Console(stderr=True), transient=True) as bar:
        layers: dict[str, TaskID] = {}
        for step in steps:
            if step.line.startswith("Loaded image"):
                loaded.append(step.line)
            if not step.all_bytes:
                bar.console.print(step.line, markup=False, highlight=False)
                continue
            layer = step.line.split(":")[0]
            if layer not in layers:
                layers[layer] = bar.add_task(layer, total=step.all_bytes)
            bar.update(layers[layer], completed=step.done_bytes, total=step.all_bytes)
    return loaded


def _say(asked: Asked, verb: str, done: Sequence[str], nothing: str) -> None:
    if asked.as_json:
        show.as_json({verb: list(done)})
        return
    show.note(f"{', '.join(done)}: {verb}." if done else nothing)
