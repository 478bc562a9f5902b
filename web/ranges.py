"""Send a part of something whose whole is known: downloads that can be resumed.

One source for files and for zips that are made as they are sent: bytes before the
range are made and left out.  An `If-Range` of another version gives the whole again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable


@dataclass(frozen=True, slots=True)
class Download:
    """What is sent: `chunks(start)` gives its bytes from there on, at most to its end.

    `version` changes when any byte does; `close` is called when the sending ends.
    """

    name: str
    mime_type: str
    length: int
    version: str
    chunks: Callable[[int], Iterator[bytes]]
    close: Callable[[], None] = lambda: None


def send(download: Download) -> Response:
    """Answer with the download, or with the one range of it that was asked for."""
    start, stop = _asked_range(download)
    is_part = (start, stop) != (0, download.length)
    chunks = _bounded(download.chunks(start), stop - start)
    answer = Response(chunks, 206 if is_part else 200, mimetype=download.mime_type)
    answer.call_on_close(download.close)
    answer.content_length = stop - start
    answer.set_etag(download.version)
    answer.headers["Accept-Ranges"] = "bytes"
    answer.headers.set("Content-Disposition", "attachment", filename=download.name)
    if is_part:
        answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{download.length}"
    return answer


def skip(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Leave out the first bytes."""
    for chunk in chunks:
        if count >= len(chunk):
            count -= len(chunk)
            continue
        yield chunk[count:]
        count = 0


def _asked_range(download: Download) -> tuple[int, int]:
    asked, whole = request.range, (0, download.length)
    condition = request.if_range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return whole
    if condition.date is not None or condition.etag not in (None, download.version):
        return whole
    found = asked.range_for_length(download.length)
    if found is None:
        download.close()
        raise RequestedRangeNotSatisfiable(download.length)
    return found[0] or 0, download.length if found[1] is None else found[1]


def _bounded(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:count]
        count -= len(chunk)
        if count <= 0:
            return
