"""Send instances to one destination, each in its own transfer syntax, byte for byte.

One association with exactly the contexts that may be needed; more than 128 make several
associations, one after another.  A C-STORE carries no File Meta, so nothing of the
senders leaves the node, and no Move Originator is named.

What the peer does not take in its transfer syntax is decoded, where the peer takes it
without compression, and sent after the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from appliance.dicom import statuses
from appliance.errors import AssociationFailed, CannotUnderstand
from appliance.router.association import Association, Context, open_association
from appliance.router.data_set import DataSet, Reader
from appliance.router.decoding import WAS_DECODED, Decoder, NotDecoded
from appliance.router.negotiation import MOST_CONTEXTS, Pair
from appliance.router.rules import Destination
from appliance.settings import Settings

SENT, WARNING, FAILED, LATER = "sent", "warning", "failed", "later"

# What nearly every peer takes, the one that keeps the value representations first.
_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
# Many peers end an association that is silent for 30 s; decoding may take longer.
_SILENT_SECONDS = 10.0
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
    `sent_bytes` are those of the data set as it was sent, also when it was refused.
    """

    outgoing: Outgoing
    kind: str
    status: int | None
    sentence: str
    is_gone: bool = False
    sent_bytes: int = 0


class _Unreadable(Exception):
    """The file of an instance cannot be sent; its text says why."""


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

    def open_for(pairs: Sequence[Pair]) -> Association:
        return open_association(destination, pairs, settings, must_end, may_be_self=may_be_self)

    with Decoder(settings, must_end) as decoder, Reader() as reader:
        for pairs, some in _batches(instances):
            if must_stop():
                return
            with _Batch(destination, pairs, open_for, decoder, reader, on_result) as batch:
                ordered = batch.in_order(some)
                for outgoing, following in zip_longest(ordered, ordered[1:]):
                    if must_stop():
                        break
                    on_result(batch.send(outgoing, following))


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


class _Batch:
    """What goes over one association; a long silence of ours gives it up for a new one."""

    def __init__(
        self,
        destination: Destination,
        pairs: Sequence[Pair],
        open_for: Callable[[Sequence[Pair]], Association],
        decoder: Decoder,
        reader: Reader,
        on_result: Callable[[Result], None],
    ) -> None:
        self._destination = destination
        self._pairs = pairs
        self._open_for = open_for
        self._decoder = decoder
        self._reader = reader
        self._on_result = on_result
        self._assoc = open_for(pairs)
        self._is_released = False

    def __enter__(self) -> _Batch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._is_released:
            self._assoc.release() if kind is None else self._assoc.abort()

    def in_order(self, instances: Sequence[Outgoing]) -> list[Outgoing]:
        """Put what has to be decoded behind what goes at once."""
        return sorted(instances, key=lambda one: one.pair not in self._assoc.contexts)

    def send(self, outgoing: Outgoing, following: Outgoing | None) -> Result:
        """Send one instance; AssociationFailed, after its result, when the association broke.

        The file of the one that follows is opened while the peer answers.
        """
        try:
            return self._send(outgoing, following)
        except FileNotFoundError:
            gone = "Its file is not on this node any more."
            return Result(outgoing, FAILED, None, gone, is_gone=True)
        except CannotUnderstand as error:
            return Result(outgoing, FAILED, None, f"Its file is damaged: {error}")
        except _Unreadable as problem:
            return Result(outgoing, FAILED, None, str(problem))
        except NotDecoded as problem:
            sentence = f"{self._refused(outgoing)} {problem}"
            return Result(outgoing, LATER if problem.is_for_now else FAILED, None, sentence)
        except OSError as error:
            # A part of it may have been sent: nothing else can follow.
            sentence = f"Its file could not be read: {error.strerror or error}."
            self._on_result(Result(outgoing, LATER, None, sentence))
            raise AssociationFailed(
                sentence, remedy="brookbox doctor, and look at the disk"
            ) from error

    def _send(self, outgoing: Outgoing, following: Outgoing | None) -> Result:
        if context := self._assoc.contexts.get(outgoing.pair):
            with self._reader.opened(outgoing.path) as opened:
                _check(opened, outgoing)
                return self._store(outgoing, context, opened, following)
        for syntax in _PLAIN:
            if (outgoing.sop_class_uid, syntax) in self._assoc.contexts:
                return self._send_decoded(outgoing, syntax)
        return Result(outgoing, FAILED, None, self._refused(outgoing))

    def _send_decoded(self, outgoing: Outgoing, syntax: str) -> Result:
        with self._reader.opened(outgoing.path) as opened:
            _check(opened, outgoing)
            decoded = self._decoder.decode(opened, syntax, self._release_when_silent())
        with decoded:
            if self._is_released:
                self._assoc = self._open_for(self._pairs)
                self._is_released = False
            context = self._assoc.contexts.get((outgoing.sop_class_uid, syntax))
            if context is None:
                sentence = f"{self._destination.ae_title} accepts other contexts than before."
                return Result(outgoing, LATER, None, sentence)
            opened = self._reader.bare(decoded.fileno(), syntax)
            return self._store(outgoing, context, opened, None, _decoded_words(outgoing, syntax))

    def _store(
        self,
        outgoing: Outgoing,
        context: Context,
        opened: DataSet,
        following: Outgoing | None,
        said: str = "",
    ) -> Result:
        def look_ahead() -> None:
            if following:
                self._reader.read_ahead(following.path)

        try:
            answer = self._assoc.store(context, outgoing.sop_instance_uid, opened, look_ahead)
        except AssociationFailed as problem:
            sentence = f"{problem} This was while it was being sent."
            self._on_result(Result(outgoing, LATER, None, sentence))
            raise
        words = statuses.store_status(answer.status)
        comment = f' ("{answer.comment}")' if answer.comment else ""
        sentence = f"{words}{comment}{said}"
        size = opened.data_set_bytes
        return Result(outgoing, kind_of(answer.status), answer.status, sentence, sent_bytes=size)

    def _release_when_silent(self) -> Callable[[], None]:
        """Give what to call again and again while nothing is sent."""
        until = time.monotonic() + _SILENT_SECONDS

        def look() -> None:
            if not self._is_released and time.monotonic() > until:
                self._is_released = True
                self._assoc.release()

        return look

    def _refused(self, outgoing: Outgoing) -> str:
        why = self._assoc.refused.get(outgoing.pair, "it did before")
        sop_class, syntax = UID(outgoing.sop_class_uid).name, _name(outgoing.transfer_syntax_uid)
        return f"{self._destination.ae_title} does not accept {sop_class} as {syntax}: {why}."


def _check(opened: DataSet, outgoing: Outgoing) -> None:
    size, known = opened.size_bytes, outgoing.size_bytes
    if known is not None and size != known:
        raise _Unreadable(f"Its file is damaged: {size} of {known} bytes.")
    if opened.transfer_syntax_uid != outgoing.transfer_syntax_uid:
        raise _Unreadable("Its file is damaged: it names another transfer syntax.")
    if opened.data_set_bytes <= 0:
        raise _Unreadable("Its file is damaged: it has no data set.")


def _decoded_words(outgoing: Outgoing, syntax: str) -> str:
    was, now = _name(outgoing.transfer_syntax_uid), _name(syntax)
    return f". {WAS_DECODED} from {was} to {now}, since the peer does not take the former."


def _name(transfer_syntax_uid: str) -> str:
    return UID(transfer_syntax_uid).name


def _batches(instances: Sequence[Outgoing]) -> Iterator[tuple[list[Pair], list[Outgoing]]]:
    """Group the instances so that each group needs at most 128 contexts (PS3.8 9.3.2.2).

    Each SOP class is proposed without compression as well, for what must be decoded.
    """
    wanted: dict[str, dict[str, None]] = {}
    for outgoing in instances:
        wanted.setdefault(outgoing.sop_class_uid, {})[outgoing.transfer_syntax_uid] = None
    most = MOST_CONTEXTS - len(_PLAIN)
    pairs: list[Pair] = []
    chosen: set[Pair] = set()
    for sop_class, syntaxes in wanted.items():
        for some in _parts(list(syntaxes), most):
            proposed = dict.fromkeys((*some, *_PLAIN))
            if len(pairs) + len(proposed) > MOST_CONTEXTS:
                yield pairs, _of(instances, chosen)
                pairs, chosen = [], set()
            pairs += [(sop_class, one) for one in proposed]
            chosen |= {(sop_class, one) for one in some}
    if pairs:
        yield pairs, _of(instances, chosen)


def _of(instances: Sequence[Outgoing], pairs: set[Pair]) -> list[Outgoing]:
    return [outgoing for outgoing in instances if outgoing.pair in pairs]


def _parts(syntaxes: list[str], most: int) -> Iterator[list[str]]:
    for start in range(0, len(syntaxes), most):
        yield syntaxes[start : start + most]
