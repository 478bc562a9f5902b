"""Command sets of DIMSE, as bytes: what an SCU asks, and what it is answered.

Implicit VR Little Endian always (PS3.7 6.3.1).  Only what a Storage and
Verification SCU needs; nothing received is trusted to be well-formed.
"""

from __future__ import annotations

import struct

C_STORE_RSP = 0x8001
C_ECHO_RSP = 0x8030
VERIFICATION = "1.2.840.10008.1.1"

_NO_DATA_SET = 0x0101
_MEDIUM = 0


def c_store_request(message_id: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Ask to store one instance (PS3.7 9.3.1.1); no Move Originator is named."""
    return _with_length(
        _uid(0x0002, sop_class_uid)
        + _number(0x0100, 0x0001)
        + _number(0x0110, message_id)
        + _number(0x0700, _MEDIUM)
        + _number(0x0800, 0x0001)
        + _uid(0x1000, sop_instance_uid)
    )


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


def _number(element: int, value: int) -> bytes:
    return struct.pack("<HHIH", 0, element, 2, value)


def _uid(element: int, uid: str) -> bytes:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, element, len(value)) + value
