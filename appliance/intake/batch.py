"""The rows of many instances in one transaction: all of each instance, or nothing of it.

Called by the writer alone, again and again with the same batch until it commits.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import itemgetter

from appliance.disk.folders import Folder
from appliance.errors import IndexUnavailable
from appliance.index import batch, reception
from appliance.index.batch import Place
from appliance.index.bulk import time_cell
from appliance.index.database import Connection, Database
from appliance.intake.arriving import Arriving
from appliance.intake.going import CameBack
from appliance.intake.sorting import Sorted, sort_out


def file_clear(
    db: Database, connection: Connection, came_back: CameBack, rows: Sequence[Arriving]
) -> Sorted:
    """Make the rows of what is clear; the others wait for `Filing`, after this transaction.

    Raises IndexUnavailable: then nothing of it may be committed.
    """
    sops = {one.header.sop_instance_uid for one in rows}
    studies = {one.header.study_uid for one in rows}
    series = {one.header.series_uid for one in rows}
    batch.lock(db, connection, sops, studies, series)
    named, unnamed = _still_named(rows)
    found = sort_out(named, batch.look_up(connection, sops, studies, series))
    if unnamed:
        others = {id(one) for one in (*unnamed, *found.others)}
        found.others = [one for one in rows if id(one) in others]
    _add_catalog(connection, came_back, found)
    _add_receptions(connection, found.clear)
    return found


def file_known(
    db: Database, connection: Connection, same: Sequence[tuple[Arriving, Place]]
) -> list[Arriving]:
    """Make the receptions of what came in the bytes that are kept; give those that were made.

    Each comes with where those bytes stood: what stands elsewhere by now is left out.
    """
    sops = {one.header.sop_instance_uid for one, _ in same}
    studies = {one.header.study_uid for one, _ in same}
    series = {one.header.series_uid for one, _ in same}
    batch.lock(db, connection, sops, studies, series)
    claims = batch.look_up(connection, sops, studies, series)
    filed = [
        one
        for one, place in same
        if claims.instances.get(one.header.sop_instance_uid) == place
        and place.made_by_job is None
        and (place.study_uid, place.series_uid) == (one.header.study_uid, one.header.series_uid)
        and place.study_uid not in claims.going
    ]
    batch.add_studies(connection, [], {one.header.study_uid: one.at for one in filed})
    _add_receptions(connection, filed)
    return filed


def _still_named(rows: Sequence[Arriving]) -> tuple[list[Arriving], list[Arriving]]:
    """Part those whose name in studies/ still is theirs from those that lost it since.

    An erasure renames folders, and the housekeeper removes names that no row speaks of.
    """
    places: dict[int, bool] = {}
    named, unnamed = [], []
    for one in rows:
        folder = one.folder
        if folder is None or (_is_in_place(folder, places) and _has_two_names(one)):
            named.append(one)
        else:
            unnamed.append(one)
    return named, unnamed


def _is_in_place(folder: Folder, known: dict[int, bool]) -> bool:
    if folder.descriptor not in known:
        known[folder.descriptor] = folder.is_in_place()
    return known[folder.descriptor]


def _has_two_names(one: Arriving) -> bool:
    try:
        return os.stat(one.file).st_nlink > 1  # noqa: PTH116 - a Path for each is dear
    except OSError:
        return False


def _add_catalog(connection: Connection, came_back: CameBack, found: Sorted) -> None:
    if not found.clear:
        return
    for one in found.new_studies:
        came_back.tell(connection, one.as_arrived(""))
    last = {one.header.study_uid: one.at for one in found.clear}
    firsts = [(one.header, one.at) for one in found.new_studies]
    if not batch.add_studies(connection, firsts, last):
        raise IndexUnavailable("a study was made by somebody else meanwhile", remedy="wait")
    batch.add_series(connection, found.new_series)
    batch.add_instances(
        connection,
        [
            (
                one.header.sop_instance_uid, one.header.series_uid, one.header.study_uid,
                one.header.sop_class_uid, one.header.transfer_syntax_uid,
                one.header.instance_number, one.place, one.size_bytes, time_cell(one.at),
                ",".join(one.header.marks),
            )
            for one in found.clear
        ],
    )  # fmt: skip


def _add_receptions(connection: Connection, clear: Iterable[Arriving]) -> None:
    groups: dict[tuple[str, str, str], list[Arriving]] = defaultdict(list)
    cells = []
    for one in clear:
        origin, header = one.origin, one.header
        if origin.level is None:
            cells.append(_cells(one, None))
            continue
        series_uid = header.series_uid if origin.level == "series" else ""
        groups[header.study_uid, series_uid, origin.sender.called_ae_title].append(one)
    # In one order in every worker: two that touch the same arrivals wait in no ring.
    for key, group in sorted(groups.items(), key=itemgetter(0)):
        study_uid, series_uid, called_ae_title = key
        first_at = min(one.at for one in group)
        last_times: dict[str, datetime] = {}
        for one in group:
            id = one.origin.sender.association_id
            last_times[id] = max(one.at, last_times.get(id, first_at))
        arrival_id = reception.touch_all(
            connection, called_ae_title, study_uid, series_uid, first_at, last_times
        )
        cells += [_cells(one, arrival_id) for one in group]
    batch.add_receptions(connection, cells)


def _cells(one: Arriving, arrival_id: int | None) -> tuple[object, ...]:
    sender, header = one.origin.sender, one.header
    return (
        header.sop_instance_uid, header.study_uid, sender.called_ae_title,
        sender.calling_ae_title, sender.address, sender.association_id,
        time_cell(one.at), arrival_id,
    )  # fmt: skip
