"""Which process holds SQLite's lock for writing, by the kernel's own list of locks.

The list is read instead of asking for the lock: to close the file again would let go
of every lock that this process has on it itself (fcntl(2)).
"""

from __future__ import annotations

from pathlib import Path

_WRITE_LOCK = 120  # the byte of the -shm file that a writer locks (sqlite.org/walformat.html)


def holder_of(index: Path) -> int | None:
    """Give the pid of whoever is writing to the index just now; None when nobody is, or unknown."""
    try:
        inode = index.with_name(index.name + "-shm").stat().st_ino
        lines = Path("/proc/locks").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    for line in lines:
        # 3: POSIX  ADVISORY  WRITE 4711 08:01:1234567 120 120
        words = line.split()
        if len(words) < 8 or words[1] != "POSIX" or words[3] != "WRITE":
            continue
        end = int(words[7]) if words[7].isdigit() else _WRITE_LOCK
        if words[5].endswith(f":{inode}") and int(words[6]) <= _WRITE_LOCK <= end:
            return int(words[4]) or None  # 0 is one of another pid namespace
    return None
