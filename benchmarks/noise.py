"""A stream of the node that writes its OUTPUT as fast as it can, for as long as it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.plan import NotMeasured
from tests.kit import dicom
from tests.kit.node import Node
from tests.kit.waiting import wait_for

_AE_TITLE = "NOISE"
# It keeps 4 GB at most: far more than the kernel leaves unwritten, and room on a small disk.
_PIECE_BYTES = 16 << 20
_TOLD = "wrote a piece"
_SCRIPT = f"""\
import os, pathlib
output = pathlib.Path(os.environ["BROOKBOX_OUTPUT"])
control = pathlib.Path(__file__).parent / "go-on"
piece, number = bytes({_PIECE_BYTES}), 0
while control.exists():
    path = output / f"{{number % 16}}.bin"
    path.unlink(missing_ok=True)
    with path.open("wb", buffering=0) as file:
        for _ in range(16):
            file.write(piece)
            print("{_TOLD}", flush=True)
            if not control.exists():
                break
    number += 1
for path in output.glob("*.bin"):
    path.unlink()
"""


class Noise:
    """Lets a node's stream write, and says how much it wrote."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._jobs = 0
        folder = node.add_stream(_AE_TITLE, _SCRIPT, quiet_seconds=1, timeout_minutes=30)
        self._control = folder / "go-on"
        node.wait_for_stream(_AE_TITLE)

    @contextmanager
    def writing(self) -> Iterator[Callable[[], int]]:
        """Let a job write from here to the end; lends how many bytes it has written since."""
        self._control.touch()
        try:
            log = self._begin()
            begun = _written(log)
            yield lambda: _written(log) - begun
        finally:
            self._control.unlink()
            self._jobs += 1
            self._node.wait_for_jobs(self._jobs, ae_title=_AE_TITLE)

    def _begin(self) -> Path:
        """Send the study of a job; its log, once it has written so much that the disk is busy."""
        files = dicom.write_study(dicom.ct_study(1), self._node.home / "sent" / str(self._jobs))
        if not self._node.send(files, _AE_TITLE).acknowledged:
            raise NotMeasured("the node did not take the study of the stream that writes")
        states = ("running", "succeeded", "failed")
        job = self._node.wait_for_jobs(self._jobs + 1, *states, ae_title=_AE_TITLE)[-1]
        log = self._node.layout.job(job.id).log
        wait_for(lambda: _written(log) > 1 << 30, "the stream has written 1 GB", 60)
        return log


def _written(log: Path) -> int:
    """Say how many bytes a job has told of."""
    return log.read_text().count(_TOLD) * _PIECE_BYTES if log.exists() else 0
