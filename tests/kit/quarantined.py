"""Entries of quarantine, made without a sender."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Entry, Kind
from appliance.ids import new_id


def put_aside(
    layout: Layout, kind: Kind, at: datetime, source: Path | None = None, **words: object
) -> str:
    """Put a file (none named: a byte) aside as if it had been done then; its id."""
    file = source or layout.incoming / new_id()
    if source is None:
        file.write_bytes(b"x")
    facts: dict[str, object] = {
        "id": "", "reason": "It cannot be walked.", "remedy": "look at it", "status": 0xC000,
        "called_ae_title": "ECHO", "calling_ae_title": "CT1", "address": "10.1.4.20",
        "association_id": "a1", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "sop_instance_uid": "1.2.3", "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "received_at": at, "kind": kind, **words,
    }  # fmt: skip
    now = quarantine.keep(layout, file, Entry(**facts))  # type: ignore[arg-type]
    then = f"{int(at.timestamp() * 1000):011x}{now[11:]}"
    for suffix in (".json", ".dcm"):
        kept = layout.quarantine / f"{now}{suffix}"
        kept.rename(kept.with_name(f"{then}{suffix}"))
    told = layout.quarantine / f"{then}.json"
    told.write_text(told.read_text().replace(now, then))
    return then
