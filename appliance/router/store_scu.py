"""Send instances to one destination, each in its own transfer syntax, byte for byte.

One association with exactly the contexts that are needed; more than 128 make several
associations, one after another.  A C-STORE carries no File Meta, so nothing of the
senders leaves the node, and no Move Originator is named.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom.uid import UID

from appliance.dicom import part10, statuses
from appliance.errors import AssociationFailed, CannotUnderstand
from appliance.router.association import MOST_CONTEXTS, Association, Pair, open_association
from appliance.router.rules import Destination
from appliance.settings import Settings

SENT, WARNING, FAILED, LATER = "sent", "warning", "failed", "later"

_DUPLICATE_SOP_INSTANCE = 0x0111
_DUPLICATE_INVOCATION = 0x0210


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An instance to send: a Part 10 file; `size_bytes` is that of the file when it is known."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: Path
    size_bytes: int | None = None

    @property
    def pair(self) -> Pair:
        """What must be negotiated for it."""
        return self.sop_class_uid, self.transfer_syntax_uid


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one instance; `status` is None when there was no answer to it.

    `kind`: SENT, WARNING (sent, with a warning), FAILED (for good), LATER (may be
    tried again).  `is_gone`: FAILED, since its file does not have that name any more.
    """

    outgoing: Outgoing
    kind: str
    status: int | None
    sentence: str
    is_gone: bool = False


class _Unreadable(Exception):
    """The file of an instance cannot be sent; its text says why."""


class _Gone(_Unreadable):
    """It is not there."""


def send(
    destination: Destination,
    instances: Sequence[Outgoing],
    settings: Settings,
    *,
    on_result: Callable[[Result], None],
    must_stop: Callable[[], bool] = lambda: False,
    must_end: Callable[[], bool] = lambda: False,
    may_be_self: bool = False,
) -> None:
    """Send all of them, and tell each result as it is known.

    `must_stop` is asked between two instances, `must_end` in every wait.  Raises
    AssociationFailed when there was no association or it broke; instances that were
    not reached have no result then.
    """
    for pairs, some in _batches(instances):
        if must_stop():
            return
        with open_association(
            destination, pairs, settings, must_end, may_be_self=may_be_self
        ) as assoc:
            for outgoing in some:
                if must_stop():
                    break
                on_result(_send_one(assoc, destination, outgoing, on_result))


def kind_of(status: int) -> str:
    """Judge the status of a C-STORE response (PS3.4 B.2.3, PS3.7 C)."""
    if status == statuses.SUCCESS:
        return SENT
    # A duplicate is what an interrupted sending leaves: the peer has it.
    if statuses.is_success(status) or status == _DUPLICATE_SOP_INSTANCE:
        return WARNING
    if statuses.is_transient(status) or status == _DUPLICATE_INVOCATION:
        return LATER
    return FAILED


def _send_one(
    assoc: Association,
    destination: Destination,
    outgoing: Outgoing,
    on_result: Callable[[Result], None],
) -> Result:
    if why := assoc.refused.get(outgoing.pair):
        return Result(outgoing, FAILED, None, _context_refused(destination, outgoing, why))
    try:
        with _opened(outgoing) as data_set:
            answer = assoc.store(outgoing.pair, outgoing.sop_instance_uid, data_set)
    except _Unreadable as problem:
        return Result(outgoing, FAILED, None, str(problem), isinstance(problem, _Gone))
    except OSError as error:
        sentence = f"Its file could not be read: {error.strerror or error}."
        on_result(Result(outgoing, LATER, None, sentence))
        raise AssociationFailed(sentence, remedy="brookbox doctor, and look at the disk") from error
    except AssociationFailed as problem:
        on_result(Result(outgoing, LATER, None, f"{problem} This was while it was being sent."))
        raise
    words = statuses.store_status(answer.status)
    comment = f' ("{answer.comment}")' if answer.comment else ""
    return Result(outgoing, kind_of(answer.status), answer.status, f"{words}{comment}")


@contextlib.contextmanager
def _opened(outgoing: Outgoing) -> Iterator[BinaryIO]:
    """Lend the file, open where its data set begins."""
    try:
        file = outgoing.path.open("rb")
    except FileNotFoundError:
        raise _Gone("Its file is not on this node any more.") from None
    with file:
        try:
            meta, start = part10.read_meta(outgoing.path)
        except CannotUnderstand as error:
            raise _Unreadable(f"Its file is damaged: {error}") from error
        size = os.fstat(file.fileno()).st_size
        if outgoing.size_bytes is not None and size != outgoing.size_bytes:
            raise _Unreadable(f"Its file is damaged: {size} of {outgoing.size_bytes} bytes.")
        if meta.transfer_syntax_uid != outgoing.transfer_syntax_uid:
            raise _Unreadable("Its file is damaged: it names another transfer syntax.")
        file.seek(start)
        yield file


def _context_refused(destination: Destination, outgoing: Outgoing, why: str) -> str:
    sop_class = UID(outgoing.sop_class_uid).name
    syntax = UID(outgoing.transfer_syntax_uid).name
    return f"{destination.ae_title} does not accept {sop_class} as {syntax}: {why}."


def _batches(instances: Sequence[Outgoing]) -> Iterator[tuple[list[Pair], list[Outgoing]]]:
    """Group the instances so that each group needs at most 128 contexts (PS3.8 9.3.2.2)."""
    pairs = list(dict.fromkeys(outgoing.pair for outgoing in instances))
    for start in range(0, len(pairs), MOST_CONTEXTS):
        some = pairs[start : start + MOST_CONTEXTS]
        chosen = set(some)
        yield some, [outgoing for outgoing in instances if outgoing.pair in chosen]
