"""After a restore or a rebuild: what had been erased and came back with it is erased again.

For the command line, while the node is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from appliance.dicom import part10
from appliance.dicom.header import Header
from appliance.disk.layout import Layout
from appliance.erasure import key
from appliance.erasure.act import Erasing
from appliance.errors import IndexUnavailable, InstanceRefused
from appliance.ids import made_at
from appliance.index import database, returned
from appliance.index.backup import why_nothing
from appliance.index.extent import Subject
from appliance.index.returned import Remembered
from appliance.index.tombstones import keyed_hash, whose
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
        went, stay = _quarantined_again(layout, secret, before)
        if went:
            said.append(f"{went} files of what had been erased came back to quarantine and went.")
        if stay:
            said.append(
                f"{stay} files in quarantine have the Study UID of what had been erased, and stay: "
                "they name another patient."
            )
        return said
    finally:
        db.close()


def _quarantined_again(layout: Layout, secret: bytes, before: Remembered) -> tuple[int, int]:
    """Remove from quarantine what came before it was erased; how many went, and how many stay.

    Those stay that have the Study UID of what was erased, and name another patient.
    """
    erased = {one.keyed_hash: one.erasure for one in before.stones}
    went = stay = 0
    for path in sorted(layout.quarantine.glob("*.dcm")):
        with suppress(InstanceRefused, OSError):
            header = part10.read_file(path)[1]
            if header.study_uid in before.studies:
                continue
            study = keyed_hash(secret, "study", header.study_uid)
            if _was_erased_since(path, _hashes(secret, header), erased):
                path.unlink(missing_ok=True)
                path.with_suffix(".json").unlink(missing_ok=True)
                went += 1
            else:
                stay += _was_erased_since(path, [study], erased)
    return went, stay


def _was_erased_since(path: Path, hashes: Sequence[str], erased: Mapping[str, str]) -> bool:
    """Say whether one of these was erased after a quarantined file had been written."""
    return any(_came_before(path, erased[one]) for one in hashes if one in erased)


def _came_before(path: Path, erasure: str) -> bool:
    """Say whether a quarantined file was written before an erasure, given its id.

    Its own id is younger where it was put aside when the index was made again.
    """
    return path.stem < erasure or path.stat().st_mtime < made_at(erasure).timestamp()


def _hashes(secret: bytes, header: Header) -> list[str]:
    """Give the hashes of which one takes a file with it: of a study that nobody else shares."""
    uid, patient = header.study_uid, header.patient_id
    found = [keyed_hash(secret, "whose", whose(uid, None))]
    if not patient.strip():
        return [*found, keyed_hash(secret, "study", uid)]
    return [
        *found,
        keyed_hash(secret, "whose", whose(uid, patient)),
        keyed_hash(secret, "patient", patient),
    ]
