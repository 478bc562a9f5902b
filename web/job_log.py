"""A job's log as it grows: its end in the page, the rest by asking again and again.

`GET /jobs/<id>/log?offset=N` gives what is new since N and says where to go on
(`X-Next-Offset`); with nothing new it waits up to ten seconds while the job runs.
Without an offset it is the whole log, as plain text.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from appliance.index import jobs as index_jobs
from appliance.index.states import ACTIVE
from web.node import Node, node

job_log = Blueprint("job_log", __name__)

_MOST_AT_ONCE = 256 * 1024
_MOST_IN_PAGE = 64 * 1024
_LOOK_SECONDS = 0.25
_LOOKS = 40  # ten seconds
_LOOKS_PER_STATE = 4  # the index is asked once a second
_CHUNK = 64 * 1024
_CODES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
    r"|[\x00-\x08\x0b-\x1f\x7f]"
)


@dataclass(frozen=True, slots=True)
class LogTail:
    """The end of a log; `offset` is where it goes on, `left_out` what stands before."""

    text: str
    offset: int
    left_out: int


def tail(path: Path) -> LogTail:
    """Read the end of a log; nothing when there is none yet."""
    file = _open(path)
    if file is None:
        return LogTail("", 0, 0)
    with file:
        size = os.fstat(file.fileno()).st_size
        start = max(size - _MOST_IN_PAGE, 0)
        found = _whole_characters(os.pread(file.fileno(), _MOST_IN_PAGE, start), is_end=False)
        end = start + len(found)
        if start:
            first = found.find(b"\n") + 1
            start, found = start + first, found[first:]
    return LogTail(plain(found), end, start)


def plain(raw: bytes) -> str:
    """Decode a part of a log and leave terminal codes out: colours, moves, lone returns."""
    text = raw.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return _CODES.sub("", text)


@job_log.get("/jobs/<int:job_id>/log")
def read_log(job_id: int) -> ResponseReturnValue:
    """Give what is new in the log, or all of it."""
    here = node()
    path = here.layout.job(job_id).log
    state = _state(here, job_id)
    asked = request.args.get("offset")
    if asked is None:
        return _whole(path)
    if not asked.isdecimal() or len(asked) > 18:
        raise BadRequest("offset must be a number of bytes.")
    return _news(here, job_id, path, int(asked), state)


def _news(here: Node, job_id: int, path: Path, offset: int, state: str) -> Response:
    has_slot = here.slots.acquire(blocking=False)
    try:
        looks = _LOOKS if has_slot else 0
        size = _size(path)
        for look in range(looks):
            if size != offset or state not in ACTIVE or here.is_stopping.wait(_LOOK_SECONDS):
                break
            if look % _LOOKS_PER_STATE == 0:
                state = _state(here, job_id)
            size = _size(path)
    finally:
        if has_slot:
            here.slots.release()
    answer = _part(path, offset, state, is_end=state not in ACTIVE)
    if not has_slot:
        answer.headers["Retry-After"] = "2"
    return answer


def _part(path: Path, offset: int, state: str, *, is_end: bool) -> Response:
    file, found, size = _open(path), b"", 0
    if file is not None:
        with file:
            size = os.fstat(file.fileno()).st_size
            if offset > size:  # the middle was left out since: begin again near the end
                offset = max(size - _MOST_IN_PAGE, 0)
            raw = os.pread(file.fileno(), _MOST_AT_ONCE, offset)
            found = _whole_characters(raw, is_end=is_end and offset + len(raw) >= size)
    else:
        offset = 0
    following = offset + len(found)
    answer = Response(plain(found), mimetype="text/plain")
    answer.headers["X-Offset"] = str(offset)
    answer.headers["X-Next-Offset"] = str(following)
    answer.headers["X-Job-State"] = state
    if is_end and following >= size:
        answer.headers["X-Log-Ended"] = "1"
    return answer


def _whole(path: Path) -> Response:
    file = _open(path)
    if file is None:
        return Response("", mimetype="text/plain")
    answer = Response(iter(lambda: file.read(_CHUNK), b""), mimetype="text/plain")
    answer.call_on_close(file.close)
    return answer


def _state(here: Node, job_id: int) -> str:
    with here.db.read() as connection:
        return index_jobs.get(connection, job_id).state


def _open(path: Path) -> BinaryIO | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return None
    return os.fdopen(handle, "rb")


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _whole_characters(raw: bytes, *, is_end: bool) -> bytes:
    """Leave a UTF-8 character that is cut in two at the end for the next time."""
    if is_end:
        return raw
    for back in range(1, min(4, len(raw)) + 1):
        byte = raw[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            needs = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return raw[:-back] if needs > back else raw
    return raw

