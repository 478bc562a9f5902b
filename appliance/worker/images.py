"""Get the image of a stream: built from its folder, pulled from a registry, or loaded from a file.

Only ever because a person asked; a job never waits for an image.  A stream's
Dockerfile that takes `ARG BASE` is built on the common ground, `streams/base`.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.errors import StreamError
from appliance.worker.container import Docker

BASE_IMAGE = "brookbox/base:1.0.0"
_NOT_SENT = {"__pycache__", ".git", "memory"}
_TAKES_BASE = re.compile(r"^\s*ARG\s+BASE\b", re.MULTILINE | re.IGNORECASE)
_IN_MEMORY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """One line that the engine said; bytes where it counts them, 0 of 0 where it does not."""

    line: str
    done_bytes: int = 0
    all_bytes: int = 0


def takes_base(folder: Path) -> bool:
    """Say whether a stream's Dockerfile is built on the common ground.

    Raises StreamError when there is no Dockerfile.
    """
    file = folder / "Dockerfile"
    if not file.is_file():
        raise StreamError(
            f"{folder} has no Dockerfile", remedy="brookbox streams pull IMAGE, or load FILE"
        )
    return _TAKES_BASE.search(file.read_text("utf-8", "replace")) is not None


def build(docker: Docker, folder: Path, image: str) -> Iterator[Progress]:
    """Build a stream's image, on the common ground where its Dockerfile takes one.

    Raises StreamError with the engine's last words when it cannot be built.
    """
    yield from _build(docker, folder, image, {"BASE": BASE_IMAGE} if takes_base(folder) else {})


def build_base(docker: Docker, folder: Path, base: str) -> Iterator[Progress]:
    """Build the common ground of streams, from its folder as it is, on a base image."""
    yield from _build(docker, folder, BASE_IMAGE, {"BASE": base})


def pull(docker: Docker, image: str) -> Iterator[Progress]:
    """Fetch an image from its registry."""
    yield Progress(f"Pulling {image}.")
    yield from _followed(docker.pull(image), f"{image} could not be pulled")


def load(docker: Docker, archive: Path) -> Iterator[Progress]:
    """Load the images of a file that `docker save` made."""
    with archive.open("rb") as file:
        yield from _followed(docker.load(file), f"{archive} could not be loaded")


def _build(
    docker: Docker, folder: Path, tag: str, arguments: Mapping[str, str]
) -> Iterator[Progress]:
    yield Progress(f"Building {tag} from {folder}.")
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as context:
        _write_context(folder, context)
        context.seek(0)
        said = docker.build(context, tag, arguments)
        yield from _followed(said, f"{tag} could not be built")


def _write_context(folder: Path, target: Any) -> None:
    """Pack a folder as a build's context; what belongs to nobody but this machine stays."""
    with tarfile.open(fileobj=target, mode="w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name, filter=_sent)


def _sent(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if _NOT_SENT & set(Path(member.name).parts):
        return None
    # The same bytes give the same layer, whoever builds it.
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _followed(messages: Iterable[dict[str, Any]], failed: str) -> Iterator[Progress]:
    for message in messages:
        if error := message.get("error"):
            raise StreamError(
                f"{failed}: {str(error).strip().rstrip('.')}",
                remedy="read the lines above; docker's own word: journalctl -u docker",
            )
        detail = message.get("progressDetail") or {}
        text = str(message.get("stream") or message.get("status") or "").strip()
        layer = str(message.get("id") or "")
        if text:
            line = f"{layer}: {text}" if layer else text
            yield Progress(line, int(detail.get("current") or 0), int(detail.get("total") or 0))
