"""Echo: the input comes back as new instances of new series, one for each that came.

Only what makes an instance a new one is changed.  Geometry, transfer syntax, pixel
bytes and the references inside stay, so a node can be proved with any object, from
a CT slice to a report.
"""

from pathlib import Path

from brookbox_results import (
    UNREADABLE,
    Job,
    StreamError,
    Success,
    credit,
    join_series,
    log,
    read_input,
    run,
    save,
    series_number,
    whole_number,
)
from pydicom import Dataset, dcmread

# A signature covers UIDs that the copy does not have (PS3.15 C.1).
SIGNATURES = ["MACParametersSequence", "DigitalSignaturesSequence"]


def echo(job: Job) -> tuple[Success, str]:
    """Copy every instance of the input; partial when some could not be."""
    headers, left_out = read_input(job.input, pixels=False)
    numbers = number_series(job, headers)
    copied = []
    for i, header in enumerate(headers):
        try:
            copy_instance(job, header, numbers[header.SeriesInstanceUID], f"echo-{i + 1:05}")
            copied.append(header.SeriesInstanceUID)
        except UNREADABLE as error:
            name = Path(str(header.filename)).name
            left_out.append(f"{name} was left out: it cannot be copied ({type(error).__name__}).")
        job.progress(i + 1, len(headers), "copying")
    for sentence in left_out:
        log(sentence)
    if not copied:
        raise StreamError("Nothing was sent back: the input has no instance that can be copied.")
    message = f"{counted(len(copied), 'instance')} in {counted(len(set(copied)), 'new series')}"
    if left_out:
        return "partial", f"{message}; {counted(len(left_out), 'file')} left out, see the log."
    return "success", f"{message}."


def number_series(job: Job, headers: list[Dataset]) -> dict[str, int]:
    """A new series number for each series of the input, in the order of the old ones."""
    old = {ds.SeriesInstanceUID: whole_number(ds, "SeriesNumber") for ds in headers}
    in_order = sorted(old, key=lambda uid: (old[uid], uid))
    return {uid: series_number(job, headers, nth) for nth, uid in enumerate(in_order)}


def copy_instance(job: Job, header: Dataset, number: int, name: str) -> None:
    """Write one instance again, as a new one that names its source."""
    # Elements that nobody looks at are written as the bytes that were read.
    ds = dcmread(header.filename)
    described = ds.get("SeriesDescription") or f"series {ds.get('SeriesNumber') or '-'}"
    for keyword in SIGNATURES:
        ds.pop(keyword, None)
    join_series(
        job,
        ds,
        name=f"instance {header.SOPInstanceUID}",
        series=f"series {header.SeriesInstanceUID}",
        number=number,
        description=f"{job.stream.get('name', 'Echo')} of {described}",
    )
    credit(job, ds, [header], f"Copied by {job.name}, content unchanged.")
    save(job, ds, name, header.file_meta.TransferSyntaxUID)


def counted(number: int, noun: str) -> str:
    """`1 file`, `3 files`; series is its own plural."""
    return f"{number} {noun}" if number == 1 or noun.endswith("s") else f"{number} {noun}s"


if __name__ == "__main__":
    run(echo)
