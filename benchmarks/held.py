"""What a receiver holds: the SHA-256 of each data set among its files."""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.plan import NotMeasured

_MAPPED_FROM = 8 << 20


def check(folder: Path, sent: dict[str, str], whose: str) -> None:
    """See that each data set that was sent lies in the folder; NotMeasured when one does not."""
    with ThreadPoolExecutor(2) as pool:
        held = set(pool.map(digest, _files(folder)))
    if missing := [uid for uid, one in sent.items() if one not in held]:
        raise NotMeasured(
            f"{whose} does not hold {len(missing)} of {len(sent)} instances as they were sent, "
            f"such as {missing[0]}"
        )


def empty(folder: Path) -> None:
    """Remove every file below a folder, so that memory and disk have room for the next run."""
    for path in _files(folder):
        path.unlink()


def digest(path: Path) -> str:
    """Give the SHA-256 of a Part 10 file's data set; "" when it is no such file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(144)
        if head[128:132] != b"DICM" or head[132:138] != b"\2\0\0\0UL":
            return ""
        start = 144 + struct.unpack_from("<I", head, 140)[0]
        if size < _MAPPED_FROM:
            file.seek(start)
            return hashlib.sha256(file.read()).hexdigest()
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            return hashlib.sha256(memoryview(mapped)[start:]).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
