"""What becomes of an instance that came: decided from what is kept, and from the settings."""

from __future__ import annotations

from enum import StrEnum

from appliance.dicom.header import Header
from appliance.index.catalog import Instance


class Fate(StrEnum):
    """What is done with an instance."""

    NEW = "new"  # it is kept, and has a row
    KNOWN = "known"  # it was kept already
    RETURNED = "returned"  # a result of ours that came back to the stream that made it
    CONFLICT = "conflict"  # the first stays, this one goes to quarantine
    REPLACES = "replaces"  # this one is kept now, the first goes to quarantine
    REFUSED = "refused"  # as a conflict, and the sender is told so
    HELD = "held"  # a person decides whether it joins


def fate_of(
    kept: Instance | None,
    header: Header,
    *,
    is_same: bool,
    is_back: bool,
    may_join: bool,
    on_conflict: str,
) -> Fate:
    """Decide what becomes of an instance; `kept` is what its SOP Instance UID stands for now.

    `is_same` says that both have one content, `is_back` that it is a result which came
    back to its own stream.  A result of our own jobs is never replaced, nor is anything
    by an instance that claims another study or series.
    """
    if kept is None:
        return Fate.NEW if may_join else Fate.HELD
    if is_back:
        return Fate.RETURNED
    if is_same:
        return Fate.KNOWN
    if not may_join:
        return Fate.HELD
    if on_conflict == "refuse":
        return Fate.REFUSED
    if on_conflict == "replace" and may_replace(kept, header):
        return Fate.REPLACES
    return Fate.CONFLICT


def may_replace(kept: Instance, header: Header) -> bool:
    """Say whether a received content may take this one's place."""
    return kept.made_by_job is None and is_in_place(kept, header)


def is_in_place(kept: Instance, header: Header) -> bool:
    """Say whether an instance claims the study and series that it is kept in."""
    return (kept.study_uid, kept.series_uid) == (header.study_uid, header.series_uid)
