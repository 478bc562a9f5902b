"""Every error that Brookbox raises on purpose, drawn as one tree.

    BrookboxError
    ├── SettingsError          the settings file or an override is wrong
    ├── IndexUnavailable       the index cannot be read or written just now
    │   ├── WrongSchema        the index has another schema version than this program
    │   │   └── NoIndex        there is none yet, or none any more
    │   ├── WrongFolder        the index belongs to another data folder
    │   └── StudyGoing         the study is being erased just now
    ├── QueueUnavailable       gearmand does not answer
    ├── DiskError              a file could not be kept
    │   ├── NoSpace            the data volume is full
    │   └── SyncFailed         the kernel could not promise that the bytes are kept
    ├── InstanceRefused        a data set that cannot be kept as an instance (has a DIMSE status)
    │   ├── CannotUnderstand   its UIDs or its structure cannot be read (0xC000)
    │   ├── DoesNotMatch       it contradicts its request, or lacks a UID (0xA900)
    │   └── Conflicts          it contradicts what is kept (0x0124)
    ├── StreamError            a stream folder is wrong
    │   └── StreamUnavailable  a good stream that cannot run on this machine now
    ├── RoutingError           routing.yaml is wrong
    │   └── RoutingChanged     somebody else changed it since it was loaded
    ├── JobError               a job cannot do what was asked
    │   └── LeaseLost          another attempt of the job is the current one
    ├── DeliveryError          a delivery cannot do what was asked
    ├── NodeError              the node cannot be started, or not be reached
    ├── BackupError            a backup cannot be made, or not be put back
    ├── ErasureError           an erasure cannot be begun, or not be ended
    ├── QuarantineError        something in quarantine cannot be taken out of it
    ├── PeerError              the other DICOM node did not do its part
    │   └── AssociationFailed  it gave no association, or ended it
    └── NotFound               what was asked for is not here

Each one says what is wrong in a sentence and carries a remedy: what to type or
to do next.  `str(error)` is the sentence; `explain(error)` adds the remedy.
"""

from __future__ import annotations


class BrookboxError(Exception):
    """What went wrong, and what to do about it."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class SettingsError(BrookboxError):
    """The settings file, or a BROOKBOX_… override, is wrong."""


class IndexUnavailable(BrookboxError):
    """The index cannot be read or written just now."""


class WrongSchema(IndexUnavailable):
    """The index has another schema version than this program."""


class NoIndex(WrongSchema):
    """There is no index, or it is empty: the node was never started, or its index is lost."""


class WrongFolder(IndexUnavailable):
    """The index belongs to another data folder."""


class StudyGoing(IndexUnavailable):
    """The study is being erased just now: what comes of it is taken when that has ended."""


class QueueUnavailable(BrookboxError):
    """gearmand does not answer."""


class DiskError(BrookboxError):
    """A file could not be kept."""


class NoSpace(DiskError):
    """The data volume has no room left."""


class SyncFailed(DiskError):
    """The kernel could not promise that the bytes are on the disk."""


class InstanceRefused(BrookboxError):
    """A data set that cannot be kept as an instance.

    `status` is the C-STORE status that the sender is given (PS3.4 B.2.3).
    """

    status = 0x0110


class CannotUnderstand(InstanceRefused):
    """The UIDs cannot be read, or the structure cannot be walked."""

    status = 0xC000


class DoesNotMatch(InstanceRefused):
    """The data set contradicts its request, or lacks a UID."""

    status = 0xA900


class Conflicts(InstanceRefused):
    """The data set contradicts what is kept, and the settings say that this is refused."""

    status = 0x0124


class StreamError(BrookboxError):
    """A stream folder is wrong."""


class StreamUnavailable(StreamError):
    """A good stream cannot run on this machine now."""


class RoutingError(BrookboxError):
    """routing.yaml is wrong."""


class RoutingChanged(RoutingError):
    """Somebody else changed routing.yaml since it was loaded."""


class JobError(BrookboxError):
    """A job cannot do what was asked of it."""


class LeaseLost(JobError):
    """Another attempt of the job is the current one now."""


class DeliveryError(BrookboxError):
    """A delivery cannot do what was asked of it."""


class NodeError(BrookboxError):
    """The node cannot be started, or one that should run is not reached."""


class BackupError(BrookboxError):
    """A backup cannot be made, or cannot be put back."""


class ErasureError(BrookboxError):
    """An erasure cannot be begun, or cannot be ended."""


class QuarantineError(BrookboxError):
    """What is in quarantine stays there: it cannot be done with it what was asked."""


class PeerError(BrookboxError):
    """The other DICOM node did not do its part."""


class AssociationFailed(PeerError):
    """The other node gave no association, or ended it; for good when `is_permanent`."""

    def __init__(self, message: str, *, remedy: str, is_permanent: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.is_permanent = is_permanent


class NotFound(BrookboxError):
    """What was asked for is not here."""


def explain(error: BrookboxError) -> str:
    """Two lines for a person: what is wrong, and what to try."""
    return f"{error}\ntry: {error.remedy}"
