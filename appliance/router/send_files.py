"""Send files that a person names, for `brookbox send store`: no index, no delivery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from appliance.dicom import part10
from appliance.errors import AssociationFailed, InstanceRefused
from appliance.router import store_scu
from appliance.router.rules import Destination
from appliance.router.store_scu import FAILED, LATER, SENT, WARNING, Outgoing, Result
from appliance.settings import Settings

_MOST_BROKEN = 3


def send_files(
    paths: Sequence[Path],
    destination: Destination,
    settings: Settings,
    *,
    own_ae_title: str = "",
    on_progress: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Send Part 10 files; give one result for each, also for what is no DICOM file.

    Nothing is tried a second time.  An association that breaks while an instance is sent
    leaves that one as LATER, and another one is opened for the rest; when there is none, or
    they break again and again, the rest is LATER with the reason.  `own_ae_title` replaces
    the destination's.  This node itself may be the destination: a person asked.
    """
    if own_ae_title:
        destination = replace(destination, own_ae_title=own_ae_title)
    results: dict[Path, Result] = {}

    def tell(result: Result) -> None:
        results[result.outgoing.path] = result
        on_progress(result)

    left = _readable(paths, tell)
    broken = 0  # associations, one after another, that brought nothing over
    while problem := _send(left, destination, settings, tell):
        told = [results[one.path] for one in left if one.path in results]
        left = [one for one in left if one.path not in results]
        went = any(one.kind in (SENT, WARNING) for one in told)
        broken = 0 if went else broken + 1
        if not told or broken == _MOST_BROKEN:
            for one in left:
                tell(Result(one, LATER, None, str(problem)))
            break
    return [results[path] for path in dict.fromkeys(paths)]


def _send(
    outgoing: Sequence[Outgoing],
    destination: Destination,
    settings: Settings,
    tell: Callable[[Result], None],
) -> AssociationFailed | None:
    """Send what there is until an association fails; give that."""
    try:
        store_scu.send(destination, outgoing, settings, on_result=tell, may_be_self=True)
    except AssociationFailed as problem:
        return problem
    return None


def _readable(paths: Sequence[Path], tell: Callable[[Result], None]) -> list[Outgoing]:
    found: list[Outgoing] = []
    for path in dict.fromkeys(paths):
        try:
            meta, header, _ = part10.read_file(path)
        except (InstanceRefused, OSError) as error:
            tell(Result(Outgoing("", "", "", path), FAILED, None, str(error)))
            continue
        found.append(
            Outgoing(header.sop_class_uid, header.sop_instance_uid, meta.transfer_syntax_uid, path)
        )
    return found
