"""What is sent: instances made in code, and real ones where BROOKBOX_REAL_DATA names them.

Before every run they get other UIDs, in place, since an instance that a receiver has
already is another road through it.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from appliance.dicom import part10
from appliance.errors import InstanceRefused
from benchmarks.plan import Plan
from tests.kit import dicom

_STUDIES = 4
_REAL = (CTImageStorage, ExplicitVRLittleEndian)
_DIGITS = b"123456789"


@dataclass(frozen=True, slots=True)
class Instance:
    """A file as it was made, its UIDs, and the file that is sent in its place."""

    original: Path
    uids: tuple[bytes, ...]
    path: Path


@dataclass(frozen=True, slots=True)
class Work:
    """Instances that are sent together."""

    title: str
    instances: tuple[Instance, ...]

    @property
    def size_bytes(self) -> int:
        """The sum of the files."""
        return sum(one.original.stat().st_size for one in self.instances)

    def __str__(self) -> str:
        count = len(self.instances)
        return f"{count} {self.title} of {self.size_bytes / count / 1000:.0f} kB"

    def renew(self, number: int) -> None:
        """Write the files that are sent, with the UIDs of this run."""
        for one in self.instances:
            content = one.original.read_bytes()
            for uid in sorted(one.uids, key=len, reverse=True):
                content = content.replace(uid, _other(uid, number))
            one.path.write_bytes(content)

    def parts(self, count: int) -> list[list[Path]]:
        """Share the files out among so many associations; those made in code by study."""
        paths = [one.path for one in self.instances]
        size = -(-len(paths) // count)
        return [paths[at : at + size] for at in range(0, len(paths), size)]

    def fifth(self) -> Work:
        """Give a fifth of the instances, for what takes 40 ms an instance."""
        return Work(self.title, self.instances[: max(len(self.instances) // 5, 1)])


def works(plan: Plan) -> list[Work]:
    """Make the instances once, in the plan's folder."""
    made = [
        _made("CT 512x512", 500, 512, plan),
        _made("CT 64x64", 2000, 64, plan),
    ]
    if folder := os.environ.get("BROOKBOX_REAL_DATA"):
        made.append(_real(Path(folder), plan))
    return made


def _made(title: str, count: int, size: int, plan: Plan) -> Work:
    originals = plan.folder / f"made-{size}"
    each = max(round(count * plan.share / _STUDIES), 1)
    files = [
        path
        for number in range(_STUDIES)
        for path in dicom.write_study(dicom.ct_study(each, size=size), originals / str(number))
    ]
    return _work(title, files, plan.folder / f"sent-{size}")


def _real(folder: Path, plan: Plan) -> Work:
    """Find the real CT images that storescu sends untouched without being told.

    Other objects are left out: storescu does not propose some SOP classes unasked, and takes
    seconds to parse a file with oddities, so that it would be what is measured.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.dcm")):
        try:
            meta, header, _ = part10.read_file(path)
        except InstanceRefused:
            continue
        if (header.sop_class_uid, meta.transfer_syntax_uid) == _REAL:
            found.setdefault(header.sop_instance_uid, path)
    some = list(found.values())[: max(round(len(found) * plan.share), _STUDIES)]
    return _work("real CT", some, plan.folder / "sent-real")


def _work(title: str, files: list[Path], folder: Path) -> Work:
    folder.mkdir()
    made = [Instance(file, _uids(file), folder / f"{n:05}.dcm") for n, file in enumerate(files)]
    return Work(title, tuple(made))


def _uids(file: Path) -> tuple[bytes, ...]:
    _, header, _ = part10.read_file(file)
    uids = {header.study_uid, header.series_uid, header.sop_instance_uid}
    return tuple(uid.encode() for uid in uids)


def _other(uid: bytes, number: int) -> bytes:
    """Write a UID in other digits: as long, and as different from its neighbours as before."""
    digits = bytes(random.Random(number).sample(_DIGITS, len(_DIGITS)))
    root, rest = uid[:4], uid[4:]
    return root + rest.translate(bytes.maketrans(_DIGITS, digits))
