"""How a stream makes results that a PACS can keep beside their sources, on pydicom alone.

A result keeps the patient and the study of its sources, gets a series of its own,
names every instance it was made from and what made it, and has UIDs that a second
attempt of the same job makes again.  A stream's `run.py` imports this module and
finds the names of `brookbox_job` in it too.  The base image puts both on
PYTHONPATH; a node that runs the stream as a plain process does the same.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, timedelta, timezone

from brookbox_job import (
    UNREADABLE,
    Job,
    StreamError,
    Success,
    log,
    read_input,
    run,
    whole_number,
)
from brookbox_study import kept
from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

__all__ = [
    "UNREADABLE", "Job", "StreamError", "Success", "code", "credit", "join_series", "log",
    "new_result", "read_input", "run", "save", "series_number", "whole_number",
]  # fmt: skip


def series_number(job: Job, inputs: Iterable[Dataset], nth: int = 0) -> int:
    """The nth number, from the job's first one (9000 or higher), that no input series has."""
    taken = {whole_number(ds, "SeriesNumber") for ds in inputs}
    free = (n for n in itertools.count(job.first_series_number) if n not in taken)
    return next(itertools.islice(free, nth, None))


def new_result(
    job: Job,
    name: str,
    sop_class: str,
    sources: Sequence[Dataset],
    *,
    series: str = "series",
    number: int,
    description: str,
    modality: str,
    keeps_geometry: bool = False,
) -> Dataset:
    """A new instance with patient, study, series and equipment, ready for its own modules.

    `name` and `series` are the output's names that its UIDs are derived from.
    `keeps_geometry` says that its coordinates are those of the sources.  Call
    `credit` when it is filled.  Patient and study are the first source's.
    """
    ds = kept(sources, keeps_geometry)
    ds.SOPClassUID = sop_class
    ds.Modality = modality
    ds.Manufacturer = "Brookbox"
    ds.ManufacturerModelName = _fit(ds, str(job.stream.get("name", "Stream")), 64)
    ds.SoftwareVersions = _fit(ds, str(job.stream.get("version", "")), 64)
    join_series(job, ds, name, series, number, description)
    ds.SeriesDate, ds.SeriesTime = ds.InstanceCreationDate, ds.InstanceCreationTime
    return ds


def join_series(
    job: Job, ds: Dataset, name: str, series: str, number: int, description: str
) -> None:
    """Make `ds` the instance `name` of the new series `series`."""
    ds.SOPInstanceUID = job.uid(name)
    ds.SeriesInstanceUID = job.uid(series)
    ds.SeriesNumber = number
    end = job.caution and f" - {job.caution}"
    ds.SeriesDescription = _fit(ds, description, 64 - len(end)) + end
    at = job.at.astimezone(_zone(ds))
    ds.InstanceCreationDate, ds.InstanceCreationTime = f"{at:%Y%m%d}", f"{at:%H%M%S}"


def credit(
    job: Job,
    ds: Dataset,
    sources: Sequence[Dataset],
    derivation: str,
    frames: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Name in `ds` every instance it was made from, how, and by what.

    `frames` gives, by SOP Instance UID, the frames used (from 1) of a multi-frame
    source; without an entry the whole instance was used.
    """
    for source in sources:
        used = (frames or {}).get(source.SOPInstanceUID, ())
        _append(ds, _source_keyword(source), _source_item(source, used))
        _refer_to(ds, source)
    warning = job.caution and f" {job.caution.capitalize()}."
    text = f"{ds.get('DerivationDescription') or ''} {derivation}".strip()
    ds.DerivationDescription = _fit(ds, text, 1024 - len(warning)) + warning
    _append(ds, "ContributingEquipmentSequence", _equipment(job, ds, warning))


def save(job: Job, ds: Dataset, name: str, syntax: UID = ExplicitVRLittleEndian) -> None:
    """Write a result as `name`.dcm, whole or not at all.

    The node writes the rest of its File Meta.
    """
    # Some writers leave command and File Meta elements in the data set, where they
    # have no place (PS3.5 7.1) and pydicom refuses them.
    for tag in [tag for tag in ds.keys() if tag.group < 4]:  # noqa: SIM118
        del ds[tag]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.preamble = bytes(128)
    part = job.output / f"{name}.part"
    try:
        ds.save_as(part, enforce_file_format=True)
        part.replace(job.output / f"{name}.dcm")
    finally:
        part.unlink(missing_ok=True)


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning
    return ds


def _source_keyword(source: Dataset) -> str:
    # Source Image Sequence is for images; the general reference module has a
    # sequence of its own for reports, plans and the like (PS3.3 C.12.4).
    return "SourceImageSequence" if "Rows" in source else "SourceInstanceSequence"


def _source_item(source: Dataset, frames: Sequence[int]) -> Dataset:
    item = _instance_item(source)
    if frames:
        item.ReferencedFrameNumber = list(frames)
    item.PurposeOfReferenceCodeSequence = [
        code("121322", "DCM", "Source image for image processing operation")
        if "Rows" in source
        else code("128243", "DCM", "Source instance")
    ]
    return item


def _refer_to(ds: Dataset, source: Dataset) -> None:
    """Add the source to the common instance reference (PS3.3 C.12.2)."""
    items = ds.get("ReferencedSeriesSequence") or []
    if any("ReferencedInstanceSequence" not in item for item in items):
        return  # a presentation state says by this sequence what it applies to
    for item in items:
        if item.SeriesInstanceUID == source.SeriesInstanceUID:
            item.ReferencedInstanceSequence.append(_instance_item(source))
            return
    item = Dataset()
    item.SeriesInstanceUID = source.SeriesInstanceUID
    item.ReferencedInstanceSequence = [_instance_item(source)]
    _append(ds, "ReferencedSeriesSequence", item)


def _instance_item(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item


def _equipment(job: Job, ds: Dataset, warning: str) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code("109102", "DCM", "Processing Equipment")]
    item.Manufacturer = "Brookbox"
    item.ManufacturerModelName = _fit(ds, str(job.stream.get("name", "Stream")), 64)
    item.SoftwareVersions = _fit(ds, str(job.stream.get("version", "")), 64)
    item.ContributionDateTime = f"{job.at.astimezone(UTC):%Y%m%d%H%M%S}+0000"
    made_by = f"Stream {job.name}" + (f", image {job.image}." if job.image else ".")
    item.ContributionDescription = _fit(ds, made_by, 1024 - len(warning)) + warning
    return item


def _append(ds: Dataset, keyword: str, item: Dataset) -> None:
    if not ds.get(keyword):
        setattr(ds, keyword, [])
    ds[keyword].value.append(item)


def _fit(ds: Dataset, text: str, length: int) -> str:
    """`text` as the data set's character set can hold it, without a backslash, cut to length."""
    text = text.replace("\\", "/")[:length].strip()
    for codec in convert_encodings(ds.get("SpecificCharacterSet") or "ISO_IR 6"):
        try:
            text.encode("ascii" if codec == "iso8859" else codec)
        except UnicodeEncodeError:
            continue
        return text
    return text.encode("ascii", "replace").decode()


def _zone(ds: Dataset) -> timezone | None:
    """The time zone of the data set's times; None is this machine's."""
    offset = str(ds.get("TimezoneOffsetFromUTC") or "")
    if len(offset) != 5 or not offset[1:].isdigit():
        return None
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
