"""Data sets made at random from a seed: what equipment sends, what none should, and lies.

Each is written here byte by byte, so that no library's idea of a data set stands between.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

IMPLICIT, LITTLE, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"
_SYNTAXES = (LITTLE, LITTLE, LITTLE, IMPLICIT, IMPLICIT, BIG, JPEG, DEFLATED)
_OPEN = 0xFFFFFFFF
_LONG = {b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"OF", b"UR", b"OV"}
_TEXTS: list[tuple[int, bytes, tuple[bytes, ...]]] = [
    (0x00080005, b"CS", (b"", b"ISO_IR 100", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"GB18030")),
    (0x00080016, b"UI", (b"1.2.840.10008.5.1.4.1.1.2\0",)),
    (0x00080018, b"UI", (b"1.2.3.4", b"1.2.3.45\0", b"1.02.3 ", b"", b"1.2\\3", b"9" * 65)),
    (0x00080020, b"DA", (b"20260101", b"")),
    (0x00080030, b"TM", (b"101112.5", b"1011")),
    (0x00080050, b"SH", (b"A-1 ", b"A\0")),
    (0x00080060, b"CS", (b"CT", b"MR", b"ct\0")),
    (0x00080090, b"PN", (b"Ref^Erred", b"\x1b$B;3ED\x1b(B^x")),
    (0x00081030, b"LO", (b"Thorax", b"B\xe4r ", "Bär".encode(), b"x" * 2000)),
    (0x0008103E, b"LO", (b"Axial", b"")),
    (0x00100010, b"PN", (b"A^B", b"\xff\xfe", b"Odd", b"\x1b[31m")),
    (0x00100020, b"LO", (b"P-1 ", b"", b"\0\0")),
    (0x00100030, b"DA", (b"19700101",)),
    (0x00100040, b"CS", (b"O ", b"F")),
    (0x00180015, b"CS", (b"CHEST ",)),
    (0x0020000D, b"UI", (b"1.2.3.5\0", b"1.2.3.5.77", b"1.2.3.5.77")),
    (0x0020000E, b"UI", (b"1.2.3.6 ", b"1.2.3.6")),
    (0x00200010, b"SH", (b"1 ",)),
    (0x00200011, b"IS", (b"3 ", b"-1")),
    (0x00200013, b"IS", (b"17", b"4 ", b"\xb2", b"")),
]
_NUMBERS = {0x00280002: (1, 3), 0x00280010: (4, 16), 0x00280011: (4, 16), 0x00280100: (8, 16)}
_VRS = (b"CS", b"DS", b"LO", b"US", b"FD", b"UT", b"OB", b"UN", b"OF", b"UI", b"AT")
_SEQUENCES = (0x00081115, 0x00081140, 0x0040A730, 0x00291010, 0x52009229)


@dataclass(frozen=True, slots=True)
class Generated:
    """A data set, the transfer syntax that was agreed, and the seed that made it."""

    data: bytes
    transfer_syntax_uid: str
    seed: int

    def __str__(self) -> str:
        return f"seed {self.seed}, {len(self.data)} bytes, {self.transfer_syntax_uid}"


def headers(count: int) -> Iterator[Generated]:
    """Make so many; two in three keep the standard, the others in one way or more do not."""
    for seed in range(count):
        dice = random.Random(seed)
        syntax = dice.choice(_SYNTAXES)
        written = _Writer(dice, syntax, is_odd=seed % 3 == 2).data_set()
        if syntax == DEFLATED:
            deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            written = deflater.compress(written) + deflater.flush()
        yield Generated(written, syntax, seed)


class _Writer:
    """Writes one data set; what breaks the standard only when it may be odd."""

    def __init__(self, dice: random.Random, syntax: str, *, is_odd: bool) -> None:
        self._dice = dice
        self._may_be_odd = is_odd
        self._order = ">" if syntax == BIG else "<"
        is_implicit = syntax == IMPLICIT
        # Some senders write what they did not agree to.
        self._is_implicit = is_implicit != (syntax in (LITTLE, IMPLICIT) and self._oddly(0.1))
        self._has_fragments = syntax == JPEG and dice.random() < 0.8

    def data_set(self) -> bytes:
        dice, parts = self._dice, list[tuple[int, bytes]]()
        for tag, vr, values in _TEXTS:
            value = dice.choice(values) if self._oddly(0.3) else values[0]
            if not self._oddly(0.03):
                parts.append((tag, self._element(tag, vr, value)))
            if self._oddly(0.02):
                parts.append((tag, self._element(tag, vr, dice.choice(values))))
        for tag, numbers in _NUMBERS.items():
            value = struct.pack(f"{self._order}H", dice.choice(numbers))
            parts.append((tag, self._element(tag, b"US", value)))
        for _ in range(dice.randrange(30)):
            tag = dice.choice((0x0018, 0x0021, 0x0029, 0x0040)) << 16 | dice.randrange(1 << 16)
            parts.append((tag, self._any(tag, self._is_implicit)))
        for tag in dice.sample(_SEQUENCES, dice.randrange(4)):
            parts.append((tag, self._sequence(tag, self._is_implicit, self._depth())))
        for group in dice.sample((0x0008, 0x0010, 0x0020), dice.randrange(2)):
            parts.append((group << 16, self._element(group << 16, b"UL", bytes(4))))
        if not self._oddly(0.05):
            parts.sort(key=lambda part: part[0])
        written = b"".join(part for _, part in parts) + self._pixels() + self._trailing()
        return self._spoilt(written) if self._oddly(0.3) else written

    def _oddly(self, share: float) -> bool:
        return self._may_be_odd and self._dice.random() < share

    def _depth(self) -> int:
        if self._oddly(0.05):
            return self._dice.choice((15, 16, 17, 63, 64, 65))
        return self._dice.randrange(4)

    def _element(
        self, tag: int, vr: bytes, value: bytes, is_implicit: bool | None = None,
        length: int | None = None,
    ) -> bytes:  # fmt: skip
        if len(value) % 2 and length is None and not self._oddly(0.2):
            value += b"\0" if vr in (b"UI", b"OB") else b" "
        length = len(value) if length is None else length
        implicit = self._is_implicit if is_implicit is None else is_implicit
        head = struct.pack(f"{self._order}HH", tag >> 16, tag & 0xFFFF)
        if implicit:
            return head + struct.pack(f"{self._order}L", length) + value
        if vr in _LONG:
            return head + vr + struct.pack(f"{self._order}HL", 0, length) + value
        return head + vr + struct.pack(f"{self._order}H", length & 0xFFFF) + value

    def _any(self, tag: int, is_implicit: bool) -> bytes:
        vr = self._dice.choice(_VRS)
        if self._oddly(0.05):
            vr = self._dice.choice((b"ZZ", b"??", b"\0\0", b"us", b"OX"))
        return self._element(
            tag, vr, self._dice.randbytes(2 * self._dice.randrange(20)), is_implicit
        )

    def _sequence(self, tag: int, is_implicit: bool, depth: int) -> bytes:
        is_un = tag & 0x10000 != 0 and not is_implicit and self._dice.random() < 0.5
        within = is_implicit or is_un
        items = b"".join(self._item(within, depth) for _ in range(1 + self._dice.randrange(3)))
        vr = b"UN" if is_un else b"SQ"
        if is_un or self._dice.random() < 0.5:
            return self._element(tag, vr, items + self._mark(0xE0DD), is_implicit, _OPEN)
        return self._element(tag, vr, items, is_implicit, len(items))

    def _item(self, is_implicit: bool, depth: int) -> bytes:
        if self._oddly(0.05):
            is_implicit = not is_implicit
        parts = [
            self._any(0x00080000 + self._dice.randrange(1, 1 << 16), is_implicit)
            for _ in range(self._dice.randrange(4))
        ]
        if self._oddly(0.05):
            parts.append(self._element(0x7FE00010, b"OW", bytes(8), is_implicit))
        if depth:
            # One branch only: all of them would double with each level.
            tag, inner = self._dice.choice(_SEQUENCES), depth - 1
            parts.append(self._sequence_of_one(tag, is_implicit, inner))
        written = b"".join(parts)
        if self._dice.random() < 0.5:
            return self._mark(0xE000, _OPEN) + written + self._mark(0xE00D)
        return self._mark(0xE000, len(written)) + written

    def _sequence_of_one(self, tag: int, is_implicit: bool, depth: int) -> bytes:
        item = self._item(is_implicit, depth)
        if self._dice.random() < 0.5:
            return self._element(tag, b"SQ", item + self._mark(0xE0DD), is_implicit, _OPEN)
        return self._element(tag, b"SQ", item, is_implicit, len(item))

    def _mark(self, element: int, length: int = 0) -> bytes:
        return struct.pack(f"{self._order}HHL", 0xFFFE, element, length)

    def _pixels(self) -> bytes:
        if self._has_fragments:
            fragments = [self._dice.randbytes(2 * self._dice.randrange(400)) for _ in range(3)]
            items = b"".join(self._mark(0xE000, len(one)) + one for one in fragments)
            return self._element(0x7FE00010, b"OB", items + self._mark(0xE0DD), False, _OPEN)
        if self._dice.random() < 0.1:
            return b""
        size = self._dice.choice((16 * 16 * 3 * 2, 20_000)) - (100 if self._oddly(0.3) else 0)
        vr = self._dice.choice((b"OW", b"OB", b"UN"))
        length = size + self._dice.choice((-2, 2, 1 << 20)) if self._oddly(0.1) else size
        return self._element(0x7FE00010, vr, self._dice.randbytes(size), None, length)

    def _trailing(self) -> bytes:
        if self._dice.random() < 0.1:
            return self._element(0xFFFCFFFC, b"OB", bytes(64))
        if self._oddly(0.1):
            return self._dice.choice((bytes(1), bytes(128), bytes(200_000), b"\1", b"junk" * 5))
        return b""

    def _spoilt(self, written: bytes) -> bytes:
        spoilt = bytearray(written)
        for _ in range(self._dice.randrange(1, 4)):
            at = self._dice.randrange(min(len(spoilt), 3000))
            spoilt[at] = self._dice.choice((0, 0xFF, self._dice.randrange(256)))
        return bytes(spoilt[: self._dice.randrange(len(spoilt))] if self._oddly(0.2) else spoilt)
