"""Values of single tags of kept instances, as text, for the rules of routing.yaml."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from appliance.router.rules import Routing

# What pydicom raises for a data set that it cannot decode.
_CANNOT_DECODE = (
    OSError, InvalidDicomError, ValueError, TypeError, KeyError, AttributeError, EOFError,
    NotImplementedError, RecursionError, struct.error, LookupError,
)  # fmt: skip
_LONGEST = 1024


class TagReader:
    """Reads each file once, and only the tags that the rules name."""

    def __init__(self, paths: Mapping[str, Path], routing: Routing) -> None:
        self._paths = paths
        self._tags = [
            Tag(test.tag) for rule in routing.rules for tests in rule.tags for test in tests
        ]
        self._read: dict[str, dict[int, tuple[str, ...]]] = {}

    def __call__(self, sop_instance_uid: str, tag: int) -> tuple[str, ...]:
        """Give the values of a tag; one empty text when it is absent or cannot be read."""
        if sop_instance_uid not in self._read:
            path = self._paths.get(sop_instance_uid)
            self._read[sop_instance_uid] = _values(path, self._tags) if path else {}
        return self._read[sop_instance_uid].get(tag) or ("",)


def _values(path: Path, tags: Sequence[int]) -> dict[int, tuple[str, ...]]:
    try:
        ds = dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
    except _CANNOT_DECODE:
        return {}
    return {tag: _texts(ds, tag) for tag in tags if tag in ds}


def _texts(ds: Dataset, tag: int) -> tuple[str, ...]:
    try:
        value = ds[tag].value
    except _CANNOT_DECODE:
        return ()
    values = value if isinstance(value, MultiValue | list) else [value]
    return tuple(_text(one) for one in values)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value[:_LONGEST].decode("latin-1").strip(" \0")
    return "" if value is None else str(value)[:_LONGEST].strip()
