"""The walker finds what the reference finds, or nothing, whatever bytes there are."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from appliance.dicom.header import Header, read_header
from appliance.dicom.walker import Familiar, header_of_start, read_start, read_whole
from appliance.errors import InstanceRefused
from tests.kit import generated

INSTRUMENTED = ["appliance.dicom"]
_SYNTAXES = (generated.LITTLE, generated.IMPLICIT, generated.BIG, generated.DEFLATED)
_familiars = {syntax: Familiar() for syntax in _SYNTAXES}


def seeds() -> Iterator[bytes]:
    """Give inputs to begin with."""
    for one in generated.headers(60):
        if one.transfer_syntax_uid in _SYNTAXES and len(one.data) < 4000:
            yield bytes((_SYNTAXES.index(one.transfer_syntax_uid), 255)) + one.data


def one_input(data: bytes) -> None:
    """Read one data set in all ways; AssertionError where they differ."""
    if len(data) < 2:
        return
    syntax, share, data_set = _SYNTAXES[data[0] % len(_SYNTAXES)], data[1], data[2:]
    if syntax == generated.DEFLATED and data[1] % 2:
        data_set = zlib.compress(data_set, wbits=-zlib.MAX_WBITS)
    reference = _read(read_header, data_set, syntax)
    assert _read(read_whole, data_set, syntax) == reference
    for cut in (len(data_set), len(data_set) * share // 255):
        view = memoryview(data_set)[:cut]
        start = read_start(view, syntax, cut == len(data_set))
        header = start and header_of_start(start, len(data_set), syntax)
        assert header is None or header == reference
        familiar = read_start(view, syntax, cut == len(data_set), _familiars[syntax])
        assert familiar == start


def _read(reader: object, data_set: bytes, syntax: str) -> Header | tuple[type, str]:
    try:
        return reader(memoryview(data_set), syntax)  # type: ignore[operator, no-any-return]
    except InstanceRefused as refused:
        return type(refused), str(refused)
