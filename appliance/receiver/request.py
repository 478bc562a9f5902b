"""What an A-ASSOCIATE-RQ asks for, read from its bytes, and which path it takes.

The direct path takes what only stores and verifies; everything else is pynetdicom's.  A
request that is not well-formed, or has more items than anybody needs, takes neither.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

from pydicom import config
from pydicom.uid import UID
from pynetdicom import sop_class
from pynetdicom.service_class import StorageServiceClass

from appliance.dicom.command_set import VERIFICATION

LONGEST_BYTES = 128 * 1024  # of a request, after its head
MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: odd numbers of one byte
MOST_SYNTAXES = 4096
MOST_USER_ITEMS = 512

_APPLICATION_CONTEXT, _PRESENTATION_CONTEXT, _USER_INFORMATION = 0x10, 0x20, 0x50
_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX = 0x30, 0x40
_MAXIMUM_LENGTH = 0x51
_DICOM_APPLICATION = b"1.2.840.10008.3.1.1.1"
_FIXED_BYTES = 74  # up to the first item (PS3.8 9.3.2)
# Maximum length, implementation class and version; the asynchronous operations window and the
# two kinds of extended negotiation, which are declined by leaving them out of the answer
# (PS3.7 D.3.3.3, D.3.3.5, D.3.3.6).  Roles (0x54) and user identity (0x58) are pynetdicom's.
_DIRECT_USER_ITEMS = frozenset((0x51, 0x52, 0x53, 0x55, 0x56, 0x57))
# A peer that takes less could not be answered in one PDU.
_LEAST_PDU_BYTES = 512


class Malformed(Exception):
    """A request that is answered with A-ABORT; its words are for the log."""


class Path(Enum):
    """Who serves an association."""

    DIRECT = "direct"
    STOCK = "stock"


@dataclass(frozen=True, slots=True)
class Context:
    """A proposed presentation context."""

    number: int
    abstract_syntax: bytes
    transfer_syntaxes: int  # how many


def path_of(request: bytes) -> Path:
    """Say who serves a whole request; Malformed when nobody does."""
    if len(request) < _FIXED_BYTES:
        raise Malformed("the association request is too short")
    # Only bit 0 of the version is tested (PS3.8 9.3.2); pynetdicom has the words to refuse.
    is_direct = bool(request[7] & 1)
    contexts: list[Context] = []
    applications: list[bytes] = []
    for kind, body in _items(request, _FIXED_BYTES, len(request), MOST_CONTEXTS + 16):
        if kind == _PRESENTATION_CONTEXT:
            contexts.append(_context(body))
        elif kind == _USER_INFORMATION:
            is_direct = _is_plain(body) and is_direct
        elif kind == _APPLICATION_CONTEXT:
            applications.append(body.rstrip(b"\0 "))
        else:
            is_direct = False
    _check(contexts)
    is_direct = is_direct and applications == [_DICOM_APPLICATION]
    is_ours = all(is_storage_or_echo(one.abstract_syntax) for one in contexts)
    return Path.DIRECT if is_direct and is_ours else Path.STOCK


def is_storage_or_echo(abstract_syntax: bytes) -> bool:
    """Say whether the direct path serves an abstract syntax.

    Storage is also what is private or unknown, as for pynetdicom's unrestricted Storage.
    """
    uid = UID(abstract_syntax.decode("latin-1").rstrip("\0 "), config.IGNORE)
    if uid == VERIFICATION or uid.is_private:
        return True
    is_known = hasattr(sop_class, uid.keyword)
    return not is_known or sop_class.uid_to_service_class(uid) is StorageServiceClass


def unreadable_ae_title(request: bytes) -> str:
    """Name the AE title that is empty or not ASCII: "calling", "called" or "" for neither.

    pynetdicom answers those with A-ABORT, where PS3.8 9.3.4 has reasons to reject them.
    """
    if len(request) < 42:
        return ""
    titles = {"calling": request[26:42], "called": request[10:26]}
    unreadable = (which for which, t in titles.items() if not t.strip() or not t.isascii())
    return next(unreadable, "")


def _check(contexts: list[Context]) -> None:
    if not contexts:  # PS3.8 7.1.1.13: one at least
        raise Malformed("no presentation context is proposed")
    if len(contexts) > MOST_CONTEXTS:
        raise Malformed(f"more than {MOST_CONTEXTS} presentation contexts")
    if sum(one.transfer_syntaxes for one in contexts) > MOST_SYNTAXES:
        raise Malformed(f"more than {MOST_SYNTAXES} transfer syntaxes")
    numbers = [one.number for one in contexts]
    if any(number % 2 == 0 for number in numbers) or len(set(numbers)) < len(numbers):
        raise Malformed("the presentation context IDs are not odd and different")


def _context(body: bytes) -> Context:
    if len(body) < 4:
        raise Malformed("a presentation context is too short")
    items = _items(body, 4, len(body), MOST_SYNTAXES)
    abstract = [value for kind, value in items if kind == _ABSTRACT_SYNTAX]
    transfer = [value for kind, value in items if kind == _TRANSFER_SYNTAX]
    if len(abstract) != 1 or not transfer or not abstract[0].strip(b"\0 "):
        raise Malformed("a presentation context lacks a syntax")
    return Context(body[0], abstract[0], len(transfer))


def _is_plain(body: bytes) -> bool:
    """Say whether the user information asks for nothing that is pynetdicom's."""
    items = _items(body, 0, len(body), MOST_USER_ITEMS)
    takes = [value for kind, value in items if kind == _MAXIMUM_LENGTH]
    if any(len(value) != 4 for value in takes):
        raise Malformed("the maximum length is not a number of four bytes")
    most = int.from_bytes(takes[0], "big") if takes else 0
    is_enough = most == 0 or most >= _LEAST_PDU_BYTES
    return is_enough and all(kind in _DIRECT_USER_ITEMS for kind, _ in items)


def _items(body: bytes, at: int, end: int, most: int) -> list[tuple[int, bytes]]:
    """List items of a type, a reserved byte, a length and so many bytes (PS3.8 9.3.2.1)."""
    found: list[tuple[int, bytes]] = []
    while at < end:
        if at + 4 > end:
            raise Malformed("an item is too short")
        kind, length = struct.unpack_from(">BxH", body, at)
        at += 4
        if at + length > end:
            raise Malformed("an item is longer than what it is part of")
        if len(found) >= most:
            raise Malformed(f"more than {most} items")
        found.append((kind, body[at : at + length]))
        at += length
    return found
