"""Command sets of DIMSE, as bytes: what an SCU asks, and what it is answered.

Implicit VR Little Endian always (PS3.7 6.3.1).  Only what Storage and Verification
need, as SCU and as SCP; nothing received is trusted to be well-formed.
"""

from __future__ import annotations

import struct

from appliance.dicom import pdu

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
C_STORE_RSP = 0x8001
C_ECHO_RSP = 0x8030
VERIFICATION = "1.2.840.10008.1.1"

_NO_DATA_SET = 0x0101
_MEDIUM = 0
_LONGEST_COMMENT = 64  # (0000,0902) Error Comment is LO
_RESPONSE = struct.Struct("<" + "HHIH" * 4)
# Message ID, priority, that a data set follows, and the head of the SOP Instance UID.
_STORE_END = struct.Struct("<HHIHHHIHHHIHHHI")


class StoreRequests:
    """C-STORE requests of one SOP class (PS3.7 9.3.1.1); no Move Originator is named."""

    __slots__ = ("_class", "_length")

    def __init__(self, sop_class_uid: str) -> None:
        self._class = _uid(0x0002, sop_class_uid) + _number(0x0100, 0x0001)
        self._length = len(self._class) + _STORE_END.size

    def encode(self, message_id: int, sop_instance_uid: str) -> bytes:
        """Ask to store one instance."""
        uid = sop_instance_uid.encode("ascii")
        uid += b"\0" * (len(uid) % 2)
        length = struct.pack("<HHII", 0, 0, 4, self._length + len(uid))
        end = _STORE_END.pack(
            0, 0x0110, 2, message_id, 0, 0x0700, 2, _MEDIUM, 0, 0x0800, 2, 1, 0, 0x1000, len(uid)
        )
        return b"".join((length, self._class, end, uid))


def c_echo_request(message_id: int) -> bytes:
    """Ask for an echo (PS3.7 9.3.5.1)."""
    return _with_length(
        _uid(0x0002, VERIFICATION)
        + _number(0x0100, 0x0030)
        + _number(0x0110, message_id)
        + _number(0x0800, _NO_DATA_SET)
    )


class Answer:
    """A response: its command field, which message it answers, its status and comment."""

    __slots__ = ("comment", "field", "message_id", "status")

    def __init__(self, command_set: bytes) -> None:
        """Read a command set; ValueError when it is not one."""
        elements = _elements(command_set)
        self.field = _us(elements, 0x0100)
        self.message_id = _us(elements, 0x0120)
        self.status = _us(elements, 0x0900)
        comment = elements.get(0x0902, b"").decode("latin-1").strip(" \0")
        self.comment = "".join(c if c.isprintable() else "?" for c in comment[:64])


class Request:
    """A request: its command field, Message ID, and what it affects, as the bytes that came."""

    __slots__ = ("field", "has_data_set", "message_id", "sop_class", "sop_instance")

    def __init__(self, command_set: bytes) -> None:
        """Read a command set; ValueError when it is none, or lacks what every request has."""
        elements = _elements(command_set)
        self.field = _us(elements, 0x0100)
        self.has_data_set = _us(elements, 0x0800) != _NO_DATA_SET
        # (0000,0120) is in its place in a C-CANCEL-RQ (PS3.7 9.3.2.3).
        self.message_id = _us(elements, 0x0120 if self.field == C_CANCEL_RQ else 0x0110)
        self.sop_class = elements.get(0x0002, b"")
        self.sop_instance = elements.get(0x1000, b"")


def store_response(
    context_id: int,
    message_id: int,
    status: int,
    sop_class: bytes,
    sop_instance: bytes,
    comment: str = "",
) -> bytes:
    """Answer a C-STORE in one P-DATA-TF (PS3.7 9.3.1.2); the UIDs are given back as they came."""
    said = b""
    if comment:
        text = comment.encode("ascii", "replace")[:_LONGEST_COMMENT]
        said = _element(0x0902, text + b" " * (len(text) % 2))
    elements = (
        _element(0x0002, sop_class)
        + _RESPONSE.pack(
            *(0, 0x0100, 2, C_STORE_RSP),
            *(0, 0x0120, 2, message_id),
            *(0, 0x0800, 2, _NO_DATA_SET),
            *(0, 0x0900, 2, status),
        )
        + said
        + _element(0x1000, sop_instance)
    )
    return _in_one_pdu(context_id, elements)


def echo_response(context_id: int, message_id: int, sop_class: bytes) -> bytes:
    """Answer a C-ECHO with success in one P-DATA-TF (PS3.7 9.3.5.2)."""
    elements = _element(0x0002, sop_class) + _RESPONSE.pack(
        *(0, 0x0100, 2, C_ECHO_RSP),
        *(0, 0x0120, 2, message_id),
        *(0, 0x0800, 2, _NO_DATA_SET),
        *(0, 0x0900, 2, 0),
    )
    return _in_one_pdu(context_id, elements)


def _in_one_pdu(context_id: int, elements: bytes) -> bytes:
    whole = _with_length(elements)
    return pdu.data_head(context_id, pdu.IS_COMMAND | pdu.IS_LAST, len(whole)) + whole


def _elements(command_set: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(command_set):
        group, element, length = struct.unpack_from("<HHI", command_set, at)
        at += 8
        if group != 0 or at + length > len(command_set):
            raise ValueError("this is no command set")
        found[element] = command_set[at : at + length]
        at += length
    return found


def _us(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element, b"")
    if len(value) != 2:
        raise ValueError(f"the response lacks (0000,{element:04X})")
    return int.from_bytes(value, "little")


def _with_length(elements: bytes) -> bytes:
    return struct.pack("<HHII", 0, 0, 4, len(elements)) + elements


def _element(element: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, element, len(value)) + value


def _number(element: int, value: int) -> bytes:
    return struct.pack("<HHIH", 0, element, 2, value)


def _uid(element: int, uid: str) -> bytes:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, element, len(value)) + value
