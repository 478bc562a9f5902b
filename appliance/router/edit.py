"""The one writer of routing.yaml, for web and CLI alike.

What is saved is a person's text, comments and all.  It is checked first, and saved
only when the file still is what the editor had loaded.  Every version is kept in
`history/` with who and when; a version that somebody wrote by hand is kept when the
next one replaces it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.disk.layout import Layout
from appliance.errors import DiskError, NotFound, RoutingChanged, RoutingError
from appliance.ids import new_id
from appliance.router import routing_file
from appliance.router.changes import changes_between
from appliance.router.rules import Routing
from appliance.settings import Settings

_BY_HAND = "by hand"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The text as it is, and the digest to give back when saving."""

    text: str
    digest: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version that was in the file; `name` finds its text again."""

    name: str
    at: str  # ISO 8601, UTC
    who: str
    what: str
    digest: str


def load(settings: Settings) -> Loaded:
    """Read what an editor begins with; the empty text when there is no file."""
    text = routing_file.read_text(settings)
    return Loaded(text, routing_file.digest_of(text))


def save(settings: Settings, new_text: str, loaded_digest: str, who: str, now: datetime) -> str:
    """Replace the text of routing.yaml; give what changed, as a sentence.

    The empty text, as `load` gives it for no file, takes the file away.  Raises RoutingError
    with every mistake of the new text, RoutingChanged when the file is not what the editor
    loaded.  On the disk when this returns.
    """
    new = routing_file.parse(new_text, settings, "routing.yaml")
    with _alone(settings):
        old = load(settings)
        if old.digest != loaded_digest:
            raise RoutingChanged(
                "routing.yaml was changed by somebody else since you loaded it.",
                remedy="load it again, and make your change there",
            )
        what = changes_between(_parsed(old.text, settings), new)
        _keep_what_is(settings, old)
        _write(settings, new_text)
        _keep(settings, new_text, Version("", now.astimezone(UTC).isoformat(), who, what, ""))
    return what


def change(
    settings: Settings, edit: Callable[[str], str], who: str, now: datetime, loaded_digest: str = ""
) -> str:
    """Apply a structured edit of `edit_text` to the text as it is, and save it.

    Without `loaded_digest` it applies to whatever the text is now.
    """
    loaded = load(settings)
    return save(settings, edit(loaded.text), loaded_digest or loaded.digest, who, now)


def history(settings: Settings) -> list[Version]:
    """List the versions that were saved, newest first."""
    found: list[Version] = []
    for file in Layout(settings.data_root).history.glob("routing-*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(Version(**json.loads(file.read_text(encoding="utf-8"))))
    return sorted(found, key=lambda version: version.name, reverse=True)


def version_text(settings: Settings, name: str) -> str:
    """Give the text of a version that `history` lists; NotFound when there is none."""
    known = {version.name for version in history(settings)}
    file = Layout(settings.data_root).history / f"{name}.yaml"
    if name not in known or not file.is_file():
        raise NotFound(
            f"there is no version {name} of routing.yaml", remedy="brookbox routing history"
        )
    return file.read_text(encoding="utf-8")


def restore(settings: Settings, name: str, loaded_digest: str, who: str, now: datetime) -> str:
    """Put an older version into force again; it is checked and saved like any text."""
    return save(settings, version_text(settings, name), loaded_digest, who, now)


def _parsed(text: str, settings: Settings) -> Routing | None:
    try:
        return routing_file.parse(text, settings)
    except RoutingError:
        return None


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Let one writer at a time compare and replace, whichever process it is in."""
    folder = Layout(settings.data_root).history
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (folder / ".routing.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise DiskError(
            f"the older version of routing.yaml could not be kept in {folder}: {error.strerror}",
            remedy="brookbox doctor",
        ) from error


def _keep_what_is(settings: Settings, old: Loaded) -> None:
    """Keep the text that is replaced, unless the newest version is that text."""
    versions = history(settings)
    if not old.text or (versions and versions[0].digest == old.digest):
        return
    written = datetime.fromtimestamp(settings.routing_file.stat().st_mtime, UTC)
    _keep(settings, old.text, Version("", written.isoformat(), _BY_HAND, "Edited by hand.", ""))


def _keep(settings: Settings, text: str, version: Version) -> None:
    folder = Layout(settings.data_root).history
    digest = routing_file.digest_of(text)
    name = f"routing-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z-{digest[:12]}"
    facts = {**asdict(version), "name": name, "digest": digest}
    _write_synced(folder / f"{name}.yaml", text, 0o600)
    _write_synced(folder / f"{name}.json", json.dumps(facts, indent=1) + "\n", 0o600)


def _write(settings: Settings, text: str) -> None:
    # A link stays a link: what it points to is replaced.
    file = settings.routing_file.resolve()
    mode = stat.S_IMODE(file.stat().st_mode) if file.exists() else 0o640
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if text:
            _write_synced(file, text, mode)
        else:
            file.unlink(missing_ok=True)
            _sync_folder(file.parent)
    except OSError as error:
        raise RoutingError(
            f"{file} cannot be written: {error.strerror or error}.",
            remedy=f"let the user that runs Brookbox write into {file.parent}",
        ) from error


def _write_synced(file: Path, text: str, mode: int) -> None:
    part = file.with_name(f".{new_id()}.part")
    try:
        with part.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fchmod(out.fileno(), mode)
            os.fsync(out.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(file.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
