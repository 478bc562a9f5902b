"""Which instances of an arrival a stream wants: the `accepts` of its info.json.

What the catalog knows is compared without opening files; any other keyword of
the standard is read from the file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableSequence, Sequence
from pathlib import Path

from appliance.index.catalog import Instance, Series

_OF_SERIES = {
    "Modality": "modality",
    "SeriesNumber": "number",
    "SeriesDescription": "description",
    "BodyPartExamined": "body_part",
}
_OF_INSTANCE = {
    "SOPClassUID": "sop_class_uid",
    "SeriesInstanceUID": "series_uid",
    "InstanceNumber": "instance_number",
}
# What pydicom raises, beside its own, on a file that is gone, or whose bytes are not what
# they claim to be.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
)


def accepted(
    instances: Sequence[Instance],
    series: Mapping[str, Series],
    accepts: Mapping[str, Collection[str]],
    root: Path,
) -> list[Instance]:
    """List the instances that have one of the wanted values for every keyword.

    `series` maps Series UIDs; `root` is what instance paths are below.  A
    multi-valued attribute matches by any of its values.
    """
    if not accepts:
        return list(instances)
    return [one for one in instances if _is_wanted(one, series.get(one.series_uid), accepts, root)]


def in_words(accepts: Mapping[str, Collection[str]]) -> str:
    """Say what a stream wants, such as `Modality CT or MR`."""
    return ", ".join(f"{key} {' or '.join(values)}" for key, values in accepts.items())


def _is_wanted(
    instance: Instance,
    series: Series | None,
    accepts: Mapping[str, Collection[str]],
    root: Path,
) -> bool:
    unread = [key for key in accepts if key not in _OF_SERIES and key not in _OF_INSTANCE]
    values: dict[str, list[str]] = _read(root / instance.path, unread) if unread else {}
    for key, name in _OF_SERIES.items():
        values[key] = [str(getattr(series, name))] if series is not None else []
    for key, name in _OF_INSTANCE.items():
        values[key] = [str(getattr(instance, name))]
    return all(
        any(value.strip() in wanted for value in values.get(key, []))
        for key, wanted in accepts.items()
    )


def _read(file: Path, keywords: Sequence[str]) -> dict[str, list[str]]:
    import pydicom  # when used: it is 8 MB, and few streams ask for what is not in the catalog

    try:
        ds = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(keywords))
        return {key: _values(ds.get(key)) for key in keywords}
    except (pydicom.errors.InvalidDicomError, *_UNREADABLE):
        return {}


def _values(value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, tuple | MutableSequence):  # pydicom's MultiValue is one
        return [str(one) for one in value]
    return [str(value)]
