"""How numbers of things and of bytes are counted and said.

What a disk holds is counted in powers of 1000, as disks are sold: 1 GB is 10^9 bytes.
Memory is counted in powers of 1024, as the kernel and Docker limit it: 1 GB is 2^30
bytes.  Every setting, key of info.json, page and answer keeps to that.
"""

from __future__ import annotations

DISK_GB = 1000**3
MEMORY_GB = 1024**3


def of_disk(count: float) -> str:
    """Say bytes of a file or a volume: 532 B, 12.4 MB, 2 GB."""
    return _said(count, 1000)


def of_memory(count: float) -> str:
    """Say bytes of memory, such as a job's peak, as memory_gb counts them."""
    return _said(count, 1024)


def count(number: int, thing: str) -> str:
    """Say a number of things: 1 rule, 3 rules, 2 deliveries."""
    return f"{number} {thing if number == 1 else plural(thing)}"


def plural(thing: str) -> str:
    """Say several of a thing: rules, deliveries, days."""
    return f"{thing[:-1]}ies" if thing.endswith("y") and thing[-2] not in "aeo" else f"{thing}s"


def _said(count: float, step: int) -> str:
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < step or unit == "TB":
            break
        amount /= step
    text = f"{amount:.0f}" if unit == "B" or amount >= 100 else f"{amount:.1f}"
    return f"{text.removesuffix('.0')} {unit}"
