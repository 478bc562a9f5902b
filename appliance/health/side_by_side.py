"""What is in quarantine beside what is kept: the values that a person must compare.

Read from the file and the index when it is asked for, and kept nowhere else: the words
of an entry, its events and the logs name no patient.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.amounts import of_disk
from appliance.dicom import part10
from appliance.dicom.differences import differences
from appliance.dicom.header import Header
from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Entry, Kind
from appliance.errors import InstanceRefused
from appliance.index import catalog
from appliance.index.catalog import Instance, Study
from appliance.index.database import Database

MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """One value of both; `is_new` when nothing is kept that it could be compared with."""

    what: str
    kept: str
    came: str
    is_new: bool = False

    @property
    def differs(self) -> bool:
        """Say whether these are two values."""
        return self.kept != self.came and not self.is_new


@dataclass(frozen=True, slots=True)
class Elements:
    """The elements that differ: the first ones, how many `more` there are, and a word on it."""

    pairs: tuple[Pair, ...] = ()
    more: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept, as far as it stands against what came."""

    patient_id: str
    patient_name: str
    birth_date: str
    study_uid: str
    series_uid: str
    instance: Instance | None = None


def side_by_side(db: Database, layout: Layout, entry: Entry) -> tuple[Pair, ...]:
    """Pair the values of what came with those of what is kept.

    Empty for a kind that contradicts nothing, for a file that cannot be read, and when
    what it contradicted is gone.
    """
    if entry.kind not in (Kind.CONFLICT, Kind.HELD, Kind.REPLACED):
        return ()
    try:
        meta, came, _ = part10.read_file(quarantine.file_of(layout, entry.id))
    except (InstanceRefused, OSError):
        return ()
    kept = _kept(db, layout, came)
    if kept is None:
        return ()
    pairs = [
        Pair("Patient ID", kept.patient_id, came.patient_id),
        Pair("Patient's name", kept.patient_name, came.patient_name),
        Pair("Birth date", kept.birth_date, came.birth_date),
        Pair("Study Instance UID", kept.study_uid, came.study_uid),
        Pair("Series Instance UID", kept.series_uid, came.series_uid, not kept.series_uid),
    ]
    if (one := kept.instance) is not None:
        pairs += [
            Pair("SOP Instance UID", one.sop_instance_uid, came.sop_instance_uid),
            Pair("Transfer syntax", one.transfer_syntax_uid, meta.transfer_syntax_uid),
            Pair("Size", of_disk(one.size_bytes), of_disk(entry.size_bytes)),
        ]
    return tuple(pairs)


def differing(db: Database, layout: Layout, entry: Entry) -> Elements:
    """List the elements in which what came differs from the instance that is kept.

    Without a word when no instance is kept under its UID.
    """
    if entry.kind not in (Kind.CONFLICT, Kind.HELD, Kind.REPLACED):
        return Elements()
    with db.read() as connection:
        kept = catalog.find_instance(connection, entry.sop_instance_uid)
    if kept is None:
        return Elements()
    try:
        found = differences(layout.root / kept.path, quarantine.file_of(layout, entry.id))
    except (InstanceRefused, OSError):
        return Elements(note="Which elements differ is not known: one of the two cannot be read.")
    pairs = tuple(Pair(one.name, one.first, one.second) for one in found.elements)
    return Elements(pairs[:MOST_SHOWN], len(pairs[MOST_SHOWN:]), _note(pairs, found.is_whole))


def _note(pairs: tuple[Pair, ...], is_whole: bool) -> str:
    if not is_whole:
        return "They are too large to be compared to the end: download it to compare them."
    return "" if pairs else "No element differs: what differs is how the two are written."


def _kept(db: Database, layout: Layout, came: Header) -> _Kept | None:
    with db.read() as connection:
        instance = catalog.find_instance(connection, came.sop_instance_uid)
        study = catalog.find_study(connection, came.study_uid)
        series = catalog.find_series(connection, came.series_uid)
        # A series in two studies is compared with the study that has it.
        if instance is None and series is not None:
            study = catalog.find_study(connection, series.study_uid)
    if instance is not None:
        return _of_instance(layout, instance) or _of_study(study, instance.series_uid, instance)
    return _of_study(study, series.series_uid if series else "", None)


def _of_instance(layout: Layout, instance: Instance) -> _Kept | None:
    try:
        header = part10.read_file(layout.root / instance.path)[1]
    except (InstanceRefused, OSError):
        return None
    return _Kept(
        header.patient_id,
        header.patient_name,
        header.birth_date,
        header.study_uid,
        header.series_uid,
        instance,
    )


def _of_study(study: Study | None, series_uid: str, instance: Instance | None) -> _Kept | None:
    if study is None:
        return None
    return _Kept(
        study.patient_id,
        study.patient_name,
        study.birth_date,
        study.study_uid,
        series_uid,
        instance,
    )
