"""What a C-STORE status means, for a person (PS3.4 B.2.3, PS3.7 annex C)."""

from __future__ import annotations

_EXACT = {
    0x0000: "kept",
    0x0105: "no such attribute",
    0x0110: "the destination had a processing failure",
    0x0111: "the destination has an instance of this UID already",
    0x0117: "the destination says that the instance's UID is not valid",
    0x0122: "the destination does not take this SOP class",
    0x0124: "the destination does not allow it",
    0x0210: "the destination saw this message twice",
    0x0211: "the destination did not understand the request",
    0x0212: "the destination says that a value is wrong",
    0xB000: "kept, but values were changed",
    0xB006: "kept, but elements were left out",
    0xB007: "kept, though it does not match its SOP class",
}
_BY_FIRST_BYTE = {
    0xA7: "the destination is out of resources",
    0xA9: "the destination says that the instance does not match its SOP class",
    0xB0: "kept with a warning",
}


def status_text(status: int | None) -> str:
    """Say a status in words with its number behind; "" when there was none."""
    if status is None:
        return ""
    words = _EXACT.get(status) or _BY_FIRST_BYTE.get(status >> 8)
    if words is None:
        is_refused = status >> 12 == 0xC
        words = "the destination cannot understand it" if is_refused else "an unusual status"
    return f"{words} (0x{status:04X})"
