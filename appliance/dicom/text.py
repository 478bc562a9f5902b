"""Text of a data set by its Specific Character Set (PS3.3 C.12.1.1.2), as Unicode.

Nothing raises: bytes that do not belong to the character set become U+FFFD.
pydicom's tables name the encodings; its functions are not used, since they warn,
and a warning would carry the text into the log.
"""

from __future__ import annotations

import codecs
import re

from pydicom import charset

_LONGEST = 1024
_ESCAPE = b"\x1b"
_PARTS = re.compile(rb"(?:^[^\x1b]+|\x1b[^\x1b]*)", re.DOTALL)
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)]) | dict.fromkeys(b"\t\n\v\f\r", " ")
_DELIMITERS = re.compile(rb"[\\^=]")


def encodings_of(value: bytes) -> list[str]:
    """Name Python's encodings for a value of Specific Character Set; the first one leads."""
    names = [part.strip(b" \0").decode("ascii", "replace") for part in value.split(b"\\")]
    known = [_encoding(name) for name in names]
    return [name for name in known if name] or [charset.default_encoding]


def decode(value: bytes, encodings: list[str]) -> str:
    """Decode a value: no padding, at most 1024 characters, and none that steer a terminal.

    PostgreSQL keeps no NUL either.
    """
    if _ESCAPE in value:
        text = "".join(_fragment(part, encodings) for part in _PARTS.findall(value))
    else:
        text = value.decode(encodings[0], "replace")
    return text[: 2 * _LONGEST].translate(_CONTROLS).strip()[:_LONGEST]


def _encoding(name: str) -> str | None:
    """Give Python's name; common misspellings (ISO-IR 100, ISO 2022-IR 100) are understood."""
    if name in charset.python_encoding:
        return charset.python_encoding[name]
    spelled = re.sub(r"^ISO.?IR.?", "ISO_IR ", name.upper())
    spelled = re.sub(r"^ISO.?2022.?IR.?", "ISO 2022 IR ", spelled)
    if spelled in charset.python_encoding:
        return charset.python_encoding[spelled]
    try:
        return codecs.lookup(name).name if name.upper() in ("UTF-8", "UTF8", "LATIN1") else None
    except LookupError:
        return None


def _fragment(part: bytes, encodings: list[str]) -> str:
    """Decode what stands from one escape sequence to the next."""
    if not part.startswith(_ESCAPE):
        return part.decode(encodings[0], "replace")
    length = 4 if part.startswith((b"\x1b$(", b"\x1b$)")) else 3
    encoding = charset.CODES_TO_ENCODINGS.get(part[:length], "")
    if encoding not in encodings and encoding != charset.default_encoding:
        return part.decode(encodings[0], "replace")
    if encoding in charset.handled_encodings:
        return part.decode(encoding, "replace")
    rest = part[length:]
    # A delimiter puts the first encoding in force again (PS3.5 6.1.2.5.3).
    delimiter = _DELIMITERS.search(rest)
    cut = delimiter.start() if delimiter else len(rest)
    return rest[:cut].decode(encoding, "replace") + rest[cut:].decode(encodings[0], "replace")
