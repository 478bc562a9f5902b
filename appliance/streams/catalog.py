"""The streams folder as it stands now: which streams there are, and what is wrong with each.

A folder counts as dropped in once nothing in it has changed for a second; an
edited one keeps its former version until then.  One bad stream harms no other.
Everyone who needs streams keeps a `StreamWatcher` and asks for `current()`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.settings import Settings
from appliance.streams import served
from appliance.streams.info import (
    Contract,
    Problem,
    StreamInfo,
    line_in,
    named_ae_title,
    read_info,
)

COPY_REMEDY = "give it an AETitle of its own, or remove it"
_SETTLED_SECONDS = 1.0
_RESCAN_SECONDS = 0.4
_MOST_ENTRIES = 2000
_NOT_LOOKED_INTO = {"models", "memory", "__pycache__", ".git"}


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream folder; `info` is None when info.json cannot be used."""

    folder: Path
    info: StreamInfo | None
    contract: Contract
    problems: tuple[Problem, ...]
    ae_title: str = ""  # also of a broken info.json, as far as it tells
    ae_title_line: int | None = None  # where info.json says it

    @property
    def is_good(self) -> bool:
        """Say whether it may serve: its problems, if any, do not stop it."""
        return self.info is not None and not any(problem.stops for problem in self.problems)

    @property
    def is_enabled(self) -> bool:
        """Say whether info.json lets it serve."""
        return self.info is not None and self.info.enabled

    @property
    def get_image(self) -> str:
        """The command that gets its image: one that it can be built from is built."""
        verb = "build" if (self.folder / "Dockerfile").is_file() else "pull"
        return f"brookbox streams {verb} {self.ae_title}"

    @property
    def good_info(self) -> StreamInfo:
        """The info of a good stream."""
        assert self.info is not None, "asked a broken stream for its info"
        return self.info


@dataclass(frozen=True, slots=True)
class Streams:
    """Every stream folder at one moment, in order of folder name."""

    all: tuple[Stream, ...] = ()

    def find(self, ae_title: str) -> Stream | None:
        """Find the stream of this AE title, compared exactly; a serving one before a broken one."""
        named = [stream for stream in self.all if stream.ae_title == ae_title]
        good = [stream for stream in named if stream.is_good]
        return next(iter(good or named), None)

    def in_place_of(self, stream: Stream) -> Stream | None:
        """Give the stream that serves under the AE title of one that does not; None: nobody."""
        found = self.find(stream.ae_title) if stream.ae_title and not stream.is_good else None
        return found if found is not None and found.is_good else None

    def why_copy(self, stream: Stream) -> str:
        """Say of a stream that another folder serves under its AE title; "" when none does."""
        other = self.in_place_of(stream)
        return f"This copy does not serve; the folder {other.folder.name} does." if other else ""

    def serving(self) -> list[Stream]:
        """List those that are good and enabled."""
        return [stream for stream in self.all if stream.is_good and stream.is_enabled]

    def meant(self, ae_title: str) -> str | None:
        """Give the AE title that differs from this one only in case, if there is one."""
        for stream in self.all:
            if stream.ae_title != ae_title and stream.ae_title.lower() == ae_title.lower():
                return stream.ae_title
        return None


def read_stream(folder: Path, own_ae_title: str = "") -> Stream:
    """Read one stream folder, whatever is in it; `own_ae_title` is the node's.  Never raises."""
    if folder.is_symlink():
        return _broken(folder, "The folder is a link: copy it.")
    if (shown := _shown_name(folder)) != folder.name:
        return _broken(folder.with_name(shown), "The folder's name is not UTF-8: rename it.")
    try:
        return _read_stream(folder, own_ae_title)
    except OSError as error:
        return _broken(folder, f"The folder cannot be read: {error.strerror}.")


def _read_stream(folder: Path, own_ae_title: str) -> Stream:
    hint = _looks_like(folder)
    file = folder / "info.json"
    if not file.is_file():
        return _broken(folder, "There is no info.json in this folder.")
    info, problems = read_info(file, hint)
    named = named_ae_title(file)
    if info is None:
        return Stream(folder, None, hint, tuple(problems), named.text, named.line)
    contract = info.contract or (hint if hint != "brookbox" or info.command else "magickbox")
    problems += _cannot_run(folder, info, contract)
    if info.ae_title == own_ae_title.strip(" "):
        sentence = f"{info.ae_title} is the AE title of the node itself (node.ae_title): choose "
        problems.append(Problem("info.json", named.line, f"AETitle: {sentence}another."))
    return Stream(folder, info, contract, tuple(problems), info.ae_title, named.line)


def _broken(folder: Path, why: str) -> Stream:
    return Stream(folder, None, "brookbox", (Problem("info.json", None, why),))


def _shown_name(folder: Path) -> str:
    """Give the name of a folder as text: one of other bytes than UTF-8 must not break a page."""
    return os.fsencode(folder.name).decode("utf-8", "replace")


def read_streams(folder: Path, serving: Collection[str] = (), own_ae_title: str = "") -> Streams:
    """Read every stream folder; of a doubled AE title the folder of `serving` goes on."""
    read = [read_stream(path, own_ae_title) for path in _folders(folder)]
    return _without_doubles(read, serving)


def streams_of(settings: Settings) -> Streams:
    """Read a node's stream folders once, and judge them as its processes do."""
    serving = served.noted(settings.data_root)
    return read_streams(settings.streams_folder, serving, settings.node.ae_title)


class StreamWatcher:
    """What stands in the streams folder, looked at again at most about twice a second.

    With `data_root` its first look knows which streams serve in the other processes.
    """

    def __init__(self, folder: Path, data_root: Path | None = None, own_ae_title: str = "") -> None:
        self._folder = folder
        self._data_root = data_root
        self._own_ae_title = own_ae_title
        self._looked_at = -_RESCAN_SECONDS
        self._signatures: dict[Path, tuple[float, int]] = {}
        self._read: dict[Path, Stream] = {}
        self._streams = Streams()
        self._lock = threading.Lock()  # it is asked by many threads at once

    @classmethod
    def of(cls, settings: Settings) -> StreamWatcher:
        """Watch a node's stream folders, and judge them as its other processes do."""
        return cls(settings.streams_folder, settings.data_root, settings.node.ae_title)

    def current(self) -> Streams:
        """Give the streams as they are now."""
        with self._lock:
            if time.monotonic() - self._looked_at >= _RESCAN_SECONDS:
                self._look()
                self._looked_at = time.monotonic()
            return self._streams

    def _look(self) -> None:
        is_first_look = self._looked_at < 0
        folders = _folders(self._folder)
        changed = set(self._read) != set(folders) & set(self._read)
        for gone in set(self._read) - set(folders):
            del self._read[gone], self._signatures[gone]
        for folder in folders:
            signature = _signature(folder)
            if signature == self._signatures.get(folder):
                continue
            # The wall clock, which the entries' change times come from; read after them,
            # so that what changes just now is not taken for something from the future.
            is_settled = not 0 <= time.time() - signature[0] < _SETTLED_SECONDS
            stream = None
            if is_settled or is_first_look:
                stream = read_stream(folder, self._own_ae_title)
            # A process that starts takes a good stream that was edited a moment ago: there
            # is no former version that could go on.
            if stream is not None and (is_settled or stream.is_good):
                self._signatures[folder] = signature
                self._read[folder] = stream
                changed = True
        if changed:
            read = [self._read[folder] for folder in sorted(self._read)]
            serving = {stream.folder.name for stream in self._streams.serving()}
            if is_first_look and self._data_root is not None:
                serving = set(served.noted(self._data_root))
            self._streams = _without_doubles(read, serving)


def _folders(folder: Path) -> list[Path]:
    """List the stream folders; `base` is the ground of images, hidden ones are not ours."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    found = [Path(entry.path) for entry in entries if _is_folder(entry)]
    return sorted(path for path in found if path.name[0] not in "._" and path.name != "base")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Say whether it is a folder, or a link that leads nowhere: which is shown, too."""
    try:
        return entry.is_dir() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:  # a link that leads in a circle, or to where we may not look
        return entry.is_symlink()


def _signature(folder: Path) -> tuple[float, int]:
    """Give the newest change time below a folder, and how many entries there are."""
    newest, count = 0.0, 0
    for changed_at in _change_times(folder):
        newest, count = max(newest, changed_at), count + 1
        if count > _MOST_ENTRIES:
            break
    return newest, count


def _change_times(folder: Path) -> Iterator[float]:
    try:
        yield folder.lstat().st_ctime
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _NOT_LOOKED_INTO:
                yield from _change_times(Path(entry.path))
            continue
        try:
            yield entry.stat(follow_symlinks=False).st_ctime
        except OSError:  # an editor's file that went while we looked, or one that is not for us
            continue


def _looks_like(folder: Path) -> Contract:
    return "magickbox-host" if (folder / "work.sh").is_file() else "brookbox"


def _cannot_run(folder: Path, info: StreamInfo, contract: Contract) -> list[Problem]:
    problems: list[Problem] = []
    if contract == "magickbox-host" and not (folder / "work.sh").is_file():
        problems.append(Problem("work.sh", None, "A MagickBox host stream needs a work.sh."))
    if contract == "magickbox" and not info.image:
        sentence = "Neither image nor command is named, and there is no work.sh."
        problems.append(Problem("info.json", None, sentence))
    if contract == "brookbox" and not info.command:
        problems.append(Problem("info.json", None, 'command is missing, such as ["python3", …].'))
    if contract == "brookbox" and not info.image and not info.trusted:
        sentence = 'image is missing; without one a stream must say "trusted": true.'
        problems.append(Problem("info.json", None, sentence))
    if info.models and not (folder / info.models).is_dir() and info.models != "models":
        sentence = f"models: there is no folder {info.models}."
        line = line_in(folder / "info.json", "models")
        problems.append(Problem("info.json", line, sentence))
    return problems


def _without_doubles(streams: list[Stream], serving: Collection[str]) -> Streams:
    """Let none of two streams with one AE title serve, but the one that was serving already.

    One that is broken in itself takes nothing from a good one.
    """
    checked = []
    for stream in streams:
        same = [s for s in streams if stream.ae_title and s.ae_title == stream.ae_title]
        others = [s for s in same if s != stream]
        if others and stream.folder.name not in serving:
            names = ", ".join(_shown_name(s.folder) for s in others)
            sentence = f"AETitle {stream.ae_title} is also that of {names}."
            stops = not stream.is_good or any(s.is_good for s in others)
            problem = Problem("info.json", stream.ae_title_line, sentence, stops)
            stream = replace(stream, problems=(*stream.problems, problem))
        elif stream.ae_title and any(_only_case(stream, other) for other in streams):
            sentence = f"Another stream's AETitle differs from {stream.ae_title} only in case."
            problem = Problem("info.json", stream.ae_title_line, sentence, stops=False)
            stream = replace(stream, problems=(*stream.problems, problem))
        checked.append(stream)
    return Streams(tuple(checked))


def _only_case(one: Stream, other: Stream) -> bool:
    return one.ae_title != other.ae_title and one.ae_title.lower() == other.ae_title.lower()
