"""What the folders of a run look like to the stream, and to the node again afterwards.

A stream's user is seldom the owner of the job's folder.  Before a run it is let in,
no further than its own places; afterwards everything belongs to the worker again,
so that the harvest can read it and the housekeeper can remove it.  All of it happens
below `data_root`, which no other user can enter.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from appliance.disk.layout import JobFolder, Layout

_PATIENCE_SECONDS = 300


def let_in(folder: JobFolder, uid: int, gid: int) -> None:
    """Let a stream of this user read INPUT and info.json, and write OUTPUT."""
    folder.input.chmod(0o755)
    folder.output.chmod(0o700)
    if folder.info.exists():
        folder.info.chmod(0o444)
    if os.geteuid() == 0:
        os.chown(folder.output, uid, gid)


def give(path: Path, uid: int, gid: int) -> None:
    """Give a folder and what is in it to a stream's user, as far as this user may."""
    if os.geteuid() == 0:
        _run("chown", "-R", "-h", f"{uid}:{gid}", path)


def stamp(folder: JobFolder) -> bytes:
    """Give what tells this attempt's folder from that of the next: the info.json of both."""
    try:
        return folder.info.read_bytes()
    except FileNotFoundError:
        return b""


def take_back_kept(path: Path) -> None:
    """Make a stream's kept folder the worker's own, unless root, who needs no right to it.

    A run of the same stream beside this one may be writing there as another user.
    """
    if os.geteuid() != 0:
        take_back(path)


def take_back(path: Path) -> None:
    """Make a folder the worker's own again, when nothing of the run is left alive.

    Neither program follows links below the folder, and both go down however deep it
    is.  What a root container left stays its own here: only a helper container can
    give that back to a worker who is not root.
    """
    if os.geteuid() == 0:
        _run("chown", "-R", "-h", f"{os.getuid()}:{os.getgid()}", path)
    _run("chmod", "-R", "u+rwX,ug-s,-t", path)


def has_foreign_files(path: Path) -> bool:
    """Say whether something below a folder belongs to another user than the worker."""
    for place, folders, files in os.walk(path):
        for name in [*folders, *files]:
            if os.lstat(os.path.join(place, name)).st_uid != os.geteuid():  # noqa: PTH118
                return True
    return False


def memory_folder(data_root: Path, ae_title: str) -> Path:
    """Make and name the kept folder of a stream."""
    folder = Layout(data_root).memory(ae_title)
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _run(program: str, *words: str | Path) -> None:
    options, path = words[:-1], words[-1]
    subprocess.run(
        [program, *options, "--", path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_PATIENCE_SECONDS,
        check=False,  # files of others are left as they are
    )
