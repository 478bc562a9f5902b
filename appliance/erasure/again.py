"""After a restore or a rebuild: what had been erased and came back with it is erased again.

For the command line, while the node is stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from appliance.dicom import part10
from appliance.dicom.header import Header
from appliance.disk.layout import Layout
from appliance.erasure import key
from appliance.erasure.act import Erasing
from appliance.errors import IndexUnavailable, InstanceRefused
from appliance.index import database, returned
from appliance.index.backup import why_nothing
from appliance.index.extent import Subject
from appliance.index.returned import Remembered
from appliance.index.tombstones import keyed_hash
from appliance.settings import Settings


def remember(settings: Settings, complain: Callable[[str], None]) -> Remembered:
    """Read what the present index knows of erasures, before it is replaced."""
    db = None
    try:
        if why_nothing(settings):
            return Remembered()
        db = database.connect(settings)
        return returned.remember(db)
    except IndexUnavailable as error:
        complain(
            f"Which erasures there were cannot be read ({error}): what was erased since the backup "
            "comes back."
        )
        return Remembered()
    finally:
        if db is not None:
            db.close()


def forget_again(settings: Settings, before: Remembered, who: str, now: datetime) -> list[str]:
    """Put the tombstones back, and erase what came back; a sentence for each erasure."""
    layout, secret = Layout(settings.data_root), key.read(Layout(settings.data_root))
    db = database.connect(settings)
    try:
        returned.put_back(db, before)
        erasing = Erasing(settings, db, is_alone=True)
        erasing.finish_all(now)
        if not before.stones:
            return []
        if secret is None:
            return [
                f"{len(before.stones)} tombstones cannot be read without {layout.erasure_key}: "
                "what was erased since the backup came back."
            ]
        said = []
        for uid in returned.came_back(db, secret, before):
            done = erasing.erase(Subject("study", uid), who, now)
            if done is not None:
                said.append(
                    f"A study that had been erased since came back, and is erased again: {done.id}."
                )
        if files := _quarantined_again(layout, secret, before):
            said.append(f"{files} files of what had been erased came back to quarantine and went.")
        return said
    finally:
        db.close()


def _quarantined_again(layout: Layout, secret: bytes, before: Remembered) -> int:
    """Remove from quarantine what came before it was erased; how many files."""
    erased = {one.keyed_hash: one.erasure for one in before.stones}
    removed = 0
    for path in sorted(layout.quarantine.glob("*.dcm")):
        with suppress(InstanceRefused, OSError):
            header = part10.read_file(path)[1]
            erasures = [erased.get(one, "") for one in _hashes(secret, header)]
            if any(path.stem < one for one in erasures) and header.study_uid not in before.studies:
                path.unlink(missing_ok=True)
                path.with_suffix(".json").unlink(missing_ok=True)
                removed += 1
    return removed


def _hashes(secret: bytes, header: Header) -> list[str]:
    found = [keyed_hash(secret, "study", header.study_uid)]
    if header.patient_id:
        found.append(keyed_hash(secret, "patient", header.patient_id))
    return found
