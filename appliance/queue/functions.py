"""The names of Gearman functions: one for each stream."""

from __future__ import annotations

from urllib.parse import quote, unquote

_PREFIX = "brookbox.run."


def function_of(ae_title: str) -> bytes:
    """Name the Gearman function of a stream.

    The AE title is percent-encoded: one with a space or a tab would break the
    lines of gearmand's administration protocol.
    """
    # pygearman looks tasks up by bytes; a str name raises AssertionError on the first job.
    return (_PREFIX + quote(ae_title, safe="")).encode("ascii")


def ae_title_of(function: str) -> str | None:
    """Give the AE title back; None for a function that is not ours."""
    if not function.startswith(_PREFIX):
        return None
    return unquote(function.removeprefix(_PREFIX))
