"""Docker's API as the worker needs it; the only module that imports `docker`.

Every failure becomes StreamUnavailable (the engine does not answer) or StreamError
(it answered and refused).  Nothing here ever pulls an image that was not asked for.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.utils.socket import STDERR, frames_iter_no_tty

from appliance.errors import StreamError, StreamUnavailable

_PATIENCE_SECONDS = 30
_LONG_SECONDS = 3600  # between two words of a build, a pull or a load
_LARGEST_FILE = 10_000_000

_NOT_ANSWERING = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)


@dataclass(frozen=True, slots=True)
class Engine:
    """What the engine says of itself."""

    version: str
    cpus: float
    is_rootless: bool
    is_remapped: bool


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is on this machine."""

    id: str
    tags: tuple[str, ...]
    volumes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class State:
    """A container as the engine sees it."""

    pid: int
    is_running: bool
    exit_code: int
    out_of_memory: bool
    written_bytes: int | None  # in its own layer, when asked for


class Docker:
    """One engine.  Made without asking it anything; may be shared by threads."""

    def __init__(self, url: str = "") -> None:
        self._url = url
        self._client: Any = None
        self._patient: Any = None

    def answers(self) -> bool:
        """Say whether the engine answers."""
        try:
            with _translated():
                return bool(self._api.ping())
        except StreamError:
            return False

    def engine(self) -> Engine:
        """Ask the engine about itself."""
        with _translated():
            info = self._api.info()
        options = " ".join(info.get("SecurityOptions") or [])
        return Engine(
            version=str(info.get("ServerVersion", "")),
            cpus=float(info.get("NCPU") or 1),
            is_rootless="name=rootless" in options,
            is_remapped="name=userns" in options,
        )

    def image(self, name: str) -> Image | None:
        """Look an image up by name or ID; None when it is not on this machine."""
        with _translated():
            try:
                found = self._api.inspect_image(name)
            except ImageNotFound:
                return None
        volumes = (found.get("Config") or {}).get("Volumes") or {}
        return Image(found["Id"], tuple(found.get("RepoTags") or ()), tuple(sorted(volumes)))

    def create(self, config: Mapping[str, Any]) -> str:
        """Make a container that does not run yet; give its ID."""
        with _translated():
            return str(self._api.create_container_from_config(dict(config))["Id"])

    def attach(self, container: str) -> Output:
        """Take hold of what a container will print, before it is started."""
        with _translated():
            return Output(
                self._api.attach_socket(container, {"stdout": 1, "stderr": 1, "stream": 1})
            )

    def start(self, container: str) -> None:
        """Start a container."""
        with _translated():
            self._api.start(container)

    def wait(self, container: str) -> int:
        """Wait for the end of a container, however long; give its exit code."""
        with _translated():
            return int(self._api.wait(container, timeout=None)["StatusCode"])

    def state(self, container: str, with_size: bool = False) -> State:
        """Look at a container; its size takes the engine a while."""
        with _translated():
            # inspect_container has no parameter for the size.
            url = self._api._url("/containers/{0}/json", container)
            answer = self._api._get(url, params={"size": int(with_size)})
            found = self._api._result(answer, True)
        state = found["State"]
        return State(
            pid=state["Pid"],
            is_running=state["Running"],
            exit_code=state["ExitCode"],
            out_of_memory=state["OOMKilled"],
            written_bytes=found.get("SizeRw"),
        )

    def was_out_of_memory(self, container: str, since: datetime) -> bool:
        """Look whether the engine was told of a kill for memory, also too late for `state`."""
        with _translated():
            told = self._api.events(
                since=since.timestamp(),
                until=datetime.now(UTC).timestamp(),
                filters={"container": container, "event": "oom"},
                decode=True,
            )
            return next(iter(told), None) is not None

    def kill(self, container: str, signal: str) -> None:
        """Send a signal to a container; one that has ended already is left alone."""
        with _translated(), contextlib.suppress(NotFound):
            try:
                self._api.kill(container, signal)
            except APIError as error:
                if error.status_code != 409:
                    raise

    def remove(self, container: str) -> None:
        """Kill and remove a container with its volumes; one that is gone is left alone."""
        with _translated(), contextlib.suppress(NotFound):
            try:
                self._api.remove_container(container, v=True, force=True)
            except APIError as error:
                if error.status_code != 409:  # somebody else removes it just now
                    raise

    def labelled(self, *labels: str) -> list[tuple[str, dict[str, str]]]:
        """List the containers that bear all these labels, with their labels."""
        with _translated():
            found = self._api.containers(all=True, filters={"label": list(labels)})
        return [(container["Id"], container["Labels"]) for container in found]

    def file_in(self, image_id: str, path: str, labels: Mapping[str, str]) -> bytes | None:
        """Read a file of an image without running anything of it; None when there is none."""
        config = {
            "Image": image_id,
            "Cmd": ["-"],
            "Labels": dict(labels),
            "HostConfig": {"NetworkMode": "none"},
        }
        container = self.create(config)
        try:
            with _translated():
                chunks, _ = self._api.get_archive(container, path)
                return _only_file(b"".join(_bounded(chunks)))
        except _Missing:
            return None
        finally:
            self.remove(container)

    def build(
        self, context: IO[bytes], tag: str, arguments: Mapping[str, str]
    ) -> Iterator[dict[str, Any]]:
        """Build an image from a tar archive; give what the engine says while it does."""
        with _translated():
            yield from self._long.build(
                fileobj=context,
                custom_context=True,
                tag=tag,
                buildargs=dict(arguments),
                rm=True,
                forcerm=True,
                decode=True,
            )

    def pull(self, name: str) -> Iterator[dict[str, Any]]:
        """Fetch an image from its registry; give what the engine says while it does."""
        with _translated():
            yield from self._long.pull(name, stream=True, decode=True)

    def load(self, archive: IO[bytes]) -> Iterator[dict[str, Any]]:
        """Load images of a `docker save` archive; give what the engine says while it does."""
        with _translated():
            yield from self._long.load_image(archive)

    def import_root(self, archive: Path, repository: str, tag: str) -> None:
        """Make an image of one layer from a tar archive of a root file system."""
        with _translated():
            self._long.import_image_from_file(str(archive), repository=repository, tag=tag)

    @property
    def _api(self) -> Any:
        if self._client is None:
            self._client = self._connect(_PATIENCE_SECONDS)
        return self._client

    @property
    def _long(self) -> Any:
        """Give the client for what takes long; the other one notices a hanging engine."""
        if self._patient is None:
            self._patient = self._connect(_LONG_SECONDS)
        return self._patient

    def _connect(self, seconds: int) -> Any:
        if self._url:
            return docker.APIClient(base_url=self._url, version="auto", timeout=seconds)
        return docker.from_env(timeout=seconds, version="auto").api


class Output:
    """What a container prints, until it ends or the engine goes away."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        with contextlib.suppress(OSError, ValueError):
            chunk: Any
            for number, chunk in frames_iter_no_tty(self._stream):
                yield "stderr" if number == STDERR else "stdout", chunk

    def close(self) -> None:
        """Let go; an iteration in another thread ends."""
        socket = getattr(self._stream, "_sock", self._stream)
        # None when the other thread has read the end meanwhile.
        with contextlib.suppress(OSError, ValueError):
            if socket is not None:
                socket.shutdown(2)
        with contextlib.suppress(OSError, ValueError):
            self._stream.close()


class _Missing(StreamError):
    """The engine has no such thing."""


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise _Missing(_said(error), remedy="see docker events") from error
    except APIError as error:
        raise StreamError(_said(error), remedy="see journalctl -u docker") from error
    except (DockerException, *_NOT_ANSWERING) as error:
        raise _no_answer(error) from error


def _no_answer(error: Exception) -> StreamUnavailable:
    if "Permission denied" in str(error) or "PermissionError" in str(error):
        return StreamUnavailable(
            "Docker does not let this user in",
            remedy="sudo usermod -aG docker $USER, then log in again and start the node again",
        )
    return StreamUnavailable(
        "Docker does not answer", remedy="systemctl start docker; brookbox doctor says more"
    )


def _said(error: APIError) -> str:
    return str(error.explanation or error).strip().rstrip(".")


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > _LARGEST_FILE:
            return
        yield chunk


def _only_file(archive: bytes) -> bytes | None:
    with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.next()
        file = tar.extractfile(member) if member is not None and member.isfile() else None
        return file.read() if file is not None else None
    return None
