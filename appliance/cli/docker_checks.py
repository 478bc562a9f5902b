"""Look at Docker for the doctor: does it answer, how well it isolates, which images are there."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.errors import StreamError, StreamUnavailable
from appliance.health.finding import Finding, ok, warn, wrong
from appliance.settings import Settings
from appliance.streams.catalog import Stream, streams_of
from appliance.worker.container import Docker, Engine
from appliance.worker.plain_process import ProcessExecutor

_ABOUT = "docker"


def check_docker(settings: Settings, runs: bool) -> Iterator[Finding]:
    """Ask the engine, and look for the image of every good stream.

    Of a node that runs, its worker says itself which streams wait.
    """
    serving = streams_of(settings).serving()
    if settings.worker.docker == "never":
        yield ok(_ABOUT, "Docker is switched off (worker.docker is never).")
        if not runs:
            yield from map(_waits, _in_need(serving, settings))
        return
    docker = Docker(settings.worker.docker_url)
    try:
        engine = docker.engine()
    except (StreamError, StreamUnavailable) as error:
        needs = _in_need(serving, settings)
        yield _no_answer(error, settings, hurts=bool(needs))
        if not runs:
            yield from map(_waits, needs)
        return
    yield from _isolation(engine)
    for stream in serving:
        if image := stream.good_info.image:
            yield _image(docker, stream, image)


def missing_image(settings: Settings, stream: Stream) -> str:
    """Say that a stream's image is not on this machine; "" when it is, or nobody can say."""
    image = stream.info.image if stream.info else ""
    if not image or settings.worker.docker == "never":
        return ""
    try:
        is_here = Docker(settings.worker.docker_url).image(image) is not None
    except (StreamError, StreamUnavailable):
        return ""
    return "" if is_here else f"{image} is not on this machine. Try: {stream.get_image}"


def _no_answer(error: StreamError, settings: Settings, *, hurts: bool) -> Finding:
    where = settings.worker.docker_url or "DOCKER_HOST or /var/run/docker.sock"
    remedy = (
        "systemctl start docker; this user must be in the group docker: usermod -aG docker USER"
    )
    return (wrong if hurts else warn)(_ABOUT, f"{error} ({where}).", remedy)


def _in_need(serving: list[Stream], settings: Settings) -> list[Stream]:
    """List the streams that this user's worker could not run without Docker."""
    processes = ProcessExecutor(settings)
    return [stream for stream in serving if processes.why_not(stream) is not None]


def _waits(stream: Stream) -> Finding:
    sentence = "It cannot run without Docker, so its jobs wait."
    remedy = 'start Docker; or, when you trust its code with every study: "trusted": true'
    return warn(f"stream {stream.ae_title}", sentence, f"{remedy} in {stream.folder}/info.json")


def _isolation(engine: Engine) -> Iterator[Finding]:
    told = f"Docker {engine.version} answers"
    if engine.is_rootless:
        yield ok(_ABOUT, f"{told}; it is rootless.")
    elif engine.is_remapped:
        yield ok(_ABOUT, f"{told}; it uses user namespaces.")
    else:
        sentence = (
            f"{told}; neither rootless nor with user namespaces: root in a container is root."
        )
        remedy = 'put {"userns-remap": "default"} into /etc/docker/daemon.json, restart docker'
        yield warn(_ABOUT, sentence, remedy)


def _image(docker: Docker, stream: Stream, image: str) -> Finding:
    about = f"image of {stream.ae_title}"
    try:
        found = docker.image(image)
    except (StreamError, StreamUnavailable) as error:
        return wrong(about, f"{image} cannot be looked up: {error}.", "docker images")
    if found is not None:
        return ok(about, f"{image} is here ({found.id[:19]}).")
    sentence = f"{image} is not on this machine."
    if stream.good_info.trusted:
        sentence += " The stream runs as a plain process until it is."
    make = warn if stream.good_info.trusted else wrong
    return make(about, sentence, stream.get_image)
