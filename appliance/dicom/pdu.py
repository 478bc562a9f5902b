"""The upper layer's protocol data units as bytes (PS3.8 9.3), but for A-ASSOCIATE-RQ and -AC.

Those two have items within items: pynetdicom's codecs read and write them.  Nothing that
was received is trusted here to be well-formed.
"""

from __future__ import annotations

import struct

ASSOCIATE_RQ = 0x01
ASSOCIATE_AC = 0x02
ASSOCIATE_RJ = 0x03
P_DATA_TF = 0x04
RELEASE_RQ = 0x05
RELEASE_RP = 0x06
ABORT = 0x07

HEAD_BYTES = 6  # type, reserved, length of what follows
DATA_HEAD_BYTES = 12  # of a P-DATA-TF and its first PDV
PDV_HEAD_BYTES = 6  # length, presentation context ID, message control header

# The message control header (PS3.8 E.2).
IS_COMMAND = 0x01
IS_LAST = 0x02

# Who aborts (PS3.8 9.3.8), and the provider's reasons.
BY_USER = 0
BY_PROVIDER = 2
NOT_SPECIFIED = 0
UNRECOGNISED_PDU = 1
UNEXPECTED_PDU = 2
UNEXPECTED_PARAMETER = 5
INVALID_PARAMETER = 6

_HEAD = struct.Struct(">BBI")
_DATA_HEAD = struct.Struct(">BBIIBB")
_PDV_HEAD = struct.Struct(">IBB")


def read_head(buffer: bytes | bytearray | memoryview, at: int = 0) -> tuple[int, int]:
    """Give the type of a PDU and the length of what follows its first six bytes."""
    kind, _, length = _HEAD.unpack_from(buffer, at)
    return kind, length


def reject(result: int, source: int, reason: int) -> bytes:
    """Encode an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return bytes((ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, result, source, reason))


def release_request() -> bytes:
    """Encode an A-RELEASE-RQ (PS3.8 9.3.6)."""
    return bytes((RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0))


def release_response() -> bytes:
    """Encode an A-RELEASE-RP (PS3.8 9.3.7)."""
    return bytes((RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0))


def abort(source: int = BY_PROVIDER, reason: int = NOT_SPECIFIED) -> bytes:
    """Encode an A-ABORT (PS3.8 9.3.8); the reason counts only from the provider."""
    return bytes((ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason))


def data_head(context_id: int, control: int, count: int) -> bytes:
    """Give what stands before `count` bytes of a message in a P-DATA-TF of one PDV (PS3.8 9.3.5).

    `control` is IS_COMMAND, IS_LAST, both or neither.
    """
    return _DATA_HEAD.pack(P_DATA_TF, 0, count + 6, count + 2, context_id, control)


def pdv_head(context_id: int, control: int, count: int) -> bytes:
    """Give what stands before `count` bytes of a message in a further PDV of the same PDU."""
    return _PDV_HEAD.pack(count + 2, context_id, control)
