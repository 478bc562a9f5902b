"""A PACS that one cannot rely on: it refuses, aborts, is short of space, is away for a while."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from tests.kit.waiting import free_port

_SUCCESS, _OUT_OF_RESOURCES = 0x0000, 0xA700


@dataclass(frozen=True)
class Came:
    """One instance that a PACS kept, and when."""

    sop_instance_uid: str
    at: float  # the wall clock's


@dataclass
class FlakyPacs:
    """A Storage SCP in threads of the test; each instance that it answered stands in `kept`."""

    folder: Path
    moods: random.Random
    ae_title: str = "FLAKY"
    port: int = field(default_factory=free_port)
    kept: list[Came] = field(default_factory=list)
    went_away: list[float] = field(default_factory=list)
    refused: int = 0
    aborted: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self._ae = AE(self.ae_title)
        self._ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
        self._server: ThreadedAssociationServer | None = None
        self._calm = threading.Event()
        self._thread = threading.Thread(target=self._have_moods, daemon=True)

    def start(self) -> FlakyPacs:
        """Listen, and be moody from now on."""
        self._listen()
        self._thread.start()
        return self

    def calm_down(self) -> None:
        """Be reliable from now on."""
        self._calm.set()
        self._thread.join()

    def stop(self) -> None:
        """Listen no more."""
        self.calm_down()
        self._hang_up()

    def _have_moods(self) -> None:
        while not self._calm.wait(self.moods.uniform(1, 4)):
            if self.moods.random() < 0.5:
                self._hang_up()
                self._calm.wait(self.moods.uniform(0.2, 3))
                self._listen()
            else:
                self._ae._maximum_associations = 0
                self._calm.wait(self.moods.uniform(0.2, 2))
                self._ae._maximum_associations = 10

    def _listen(self) -> None:
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_REQUESTED, self._greet),
            (evt.EVT_REJECTED, self._count_refusal),
        ]
        self._server = self._ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers
        )

    def _hang_up(self) -> None:
        assert self._server is not None
        self.went_away.append(time.time())
        self._server.shutdown()
        for assoc in self._ae.active_associations:
            assoc.abort()
        self._server = None

    def _count_refusal(self, event: evt.Event) -> None:
        self.refused += 1

    def _greet(self, event: evt.Event) -> None:
        if not self._calm.is_set() and self.moods.random() < 0.1:
            self.aborted += 1
            event.assoc.abort()

    def _store(self, event: evt.Event) -> int:
        """Keep an instance, once it is plain that it will be answered."""
        if not self._calm.is_set():
            mood = self.moods.random()
            if mood < 0.05:
                self.refused += 1
                return _OUT_OF_RESOURCES
            if mood < 0.1:
                self.aborted += 1
                event.assoc.abort()
                return _OUT_OF_RESOURCES
            if mood < 0.3:
                time.sleep(self.moods.uniform(0, 0.4))  # so that a kill meets it in the middle
        uid = str(event.request.AffectedSOPInstanceUID)
        path = self.folder / f"{uid}.dcm"
        path.write_bytes(event.encoded_dataset())
        self.kept.append(Came(uid, time.time()))
        return _SUCCESS
