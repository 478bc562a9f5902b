"""UIDs and AE titles: what the standard lets them be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

IMPLEMENTATION_CLASS_UID = "2.25.292341106431424203421683418406325101213"
IMPLEMENTATION_VERSION = "BROOKBOX"

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_TOLD = re.compile(r"[0-9]+(?:\.[0-9]+)+")


def is_uid(text: str) -> bool:
    """Say whether this may stand as a UID: digits and dots, at most 64 (PS3.5 9.1).

    Leading zeros in a component break the standard but hurt nobody: they pass.
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def uids_in(text: str) -> set[str]:
    """Give whatever may be a UID in a text, and every other dotted number."""
    return set(_TOLD.findall(text))


def without_uids(text: str, uids: Collection[str]) -> str:
    """Write x over these UIDs in a text, and over no part of a longer one."""
    return _TOLD.sub(lambda one: "x" * len(one[0]) if one[0] in uids else one[0], text)


def is_ae_title(text: str) -> bool:
    """Say whether this is an AE title: 1 to 16 printable ASCII, no backslash (PS3.5 6.2)."""
    plain = text.strip(" ")
    return 0 < len(plain) <= 16 and all(" " <= c <= "~" and c != "\\" for c in plain)


def derived_uid(seed: str, name: str) -> str:
    """Make a UID that the same seed and name always give (PS3.5 B.2: 2.25 and a UUID)."""
    digest = hashlib.sha256(f"{seed}\n{name}".encode()).digest()
    number = int.from_bytes(digest[:16], "big")
    # The bits that mark a version 5, variant 1 UUID (RFC 4122 4.1).
    number = number & ~(0xF << 76) | (5 << 76)
    number = number & ~(0x3 << 62) | (2 << 62)
    return f"2.25.{number}"
