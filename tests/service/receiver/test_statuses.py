"""What each C-STORE is answered: bad instances, limits, disks that fail."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import _config, evt

from appliance.dicom import part10
from appliance.disk import quarantine, space
from appliance.disk.studies import dataset_digest
from tests.kit import peers, require
from tests.kit.dicom import ct_slice, ct_study, write, write_study
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import (
    associate,
    c_store,
    ct_slice_with_meta,
    rejection,
    send_raw,
    wire,
)


def test_bi_09_a_bad_instance_is_refused_in_words_and_the_association_goes_on(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    ds = ct_slice()
    path = write(ds, tmp_path / "a.dcm")
    other = Dataset()
    other.SOPClassUID, other.SOPInstanceUID = ds.SOPClassUID, "1.2.3.4"
    answer = send_raw(receiver, ds, path, other)
    assert answer.Status == 0xA900
    assert answer.ErrorComment.startswith("SOP Instance UID (0008,0018) of the data set")
    assert len(answer.ErrorComment) <= 64
    del ds.StudyInstanceUID
    assert send_raw(receiver, ds, write(ds, tmp_path / "b.dcm")).Status == 0xA900
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(path.read_bytes()[:-10])
    good = ct_slice()
    good.SOPInstanceUID = ds.SOPInstanceUID
    answer = send_raw(receiver, good, cut)
    assert answer.Status == 0xC000
    found = quarantine.entries(receiver.layout)
    assert sorted(one.status for one in found) == [0xA900, 0xA900, 0xC000]
    assert all(one.calling_ae_title == "CT1" for one in found)
    assert len(receiver.events("instance refused")) == 3
    wait_for(lambda: all(row.closed_at for row in receiver.associations()), "all are closed")
    assert [(row.instances, row.failures) for row in receiver.associations()] == [(0, 1)] * 3
    assert receiver.stored() == []


@pytest.mark.filterwarnings("ignore:.*VR:UserWarning")
@pytest.mark.parametrize(
    "uid",
    [
        "../../etc/passwd",
        "1/2",
        "1." + "2" * 70,
        "%00",
        "1.2\0.3",
        "1.2\n.3",
        "1.2'; DROP TABLE instances",
    ],
)
def test_bi_04_a_uid_that_is_none_is_refused_and_the_association_stays(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: str
) -> None:
    for kind in ("UI", "AE"):
        monkeypatch.setitem(_config.VALIDATORS, kind, lambda value: (True, ""))
    receiver.start()
    ds = ct_slice_with_meta()
    good = write(ds, tmp_path / "good.dcm")
    raw = good.read_bytes()[part10.read_meta(good)[1] :]
    old = ds.SOPInstanceUID.encode()
    old += b"\0" * (len(old) % 2)
    new = uid.encode() + b"\0" * (len(uid) % 2)
    bad = raw.replace(
        b"\x08\0\x18\0UI" + len(old).to_bytes(2, "little") + old,
        b"\x08\0\x18\0UI" + len(new).to_bytes(2, "little") + new,
    )
    assert bad != raw
    answers: list[int] = []
    assoc = associate(
        receiver,
        handlers=[(evt.EVT_DIMSE_RECV, lambda e: answers.append(e.message.command_set.Status))],
    )
    wire(assoc).sendall(b"".join(c_store(ds.SOPClassUID, uid, bad)))
    wait_for(lambda: answers, "an answer")
    wire(assoc).sendall(b"".join(c_store(ds.SOPClassUID, ds.SOPInstanceUID, raw)))
    wait_for(lambda: len(answers) == 2, "another answer")
    assert answers == [0xC000, 0x0000]
    assoc.release()
    (entry,) = quarantine.entries(receiver.layout)
    assert entry.sop_instance_uid == uid
    assert len(receiver.stored()) == 1


def test_bi_13_an_instance_over_the_limit_is_out_of_resources(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.settings = {"receiver": {"max_instance_mb": 1}}
    receiver.write_settings()
    receiver.start()
    ds = ct_slice(size=800)
    report = peers.storescu([write(ds, tmp_path / "big.dcm")], receiver.port, "ECHO")
    assert "OutOfResources" in report.text
    ds = ct_slice(size=2048)  # 8 MB: it is cut off before it is whole
    report = peers.storescu([write(ds, tmp_path / "bigger.dcm")], receiver.port, "ECHO")
    assert report.acknowledged == []
    assert receiver.stored() == []
    wait_for(lambda: all(row.closed_at for row in receiver.associations()), "all are closed")


def test_a_full_disk_is_out_of_resources_and_what_was_kept_stays(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.prelude = (
        "import os, pathlib\nreal = os.writev\n"
        "def writev(fd, views):\n"
        "    if pathlib.Path('full').exists(): raise OSError(28, 'No space left on device')\n"
        "    return real(fd, views)\n"
        "os.writev = writev\n"
    )
    receiver.start()
    files = write_study(ct_study(3), tmp_path)
    assert len(peers.storescu(files[:1], receiver.port, "ECHO").acknowledged) == 1
    (receiver.home / "full").touch()
    report = peers.storescu(files[1:], receiver.port, "ECHO", options=("-nh",))
    assert report.acknowledged == []
    assert "OutOfResources" in report.text
    assert receiver.waiting() == []
    (receiver.home / "full").unlink()
    assert len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == 3


def test_ft_22_a_volume_that_runs_full_keeps_what_was_acknowledged_and_recovers(
    tmp_path: Path,
) -> None:
    require.root()
    data = tmp_path / "node" / "data"
    data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", data], check=True)
    receiver = Receiver(tmp_path / "node", {"receiver": {"reserve_gb": 0}})
    try:
        receiver.start()
        files = write_study(ct_study(40, size=512), tmp_path / "sent")
        report = peers.storescu(files, receiver.port, "ECHO")
        kept = report.acknowledged
        assert 5 < len(kept) < 25
        assert len(report.answers) == 40, "the association stays"
        assert "OutOfResources" in report.text
        # The index has no room either: what was answered waits for it, whole and named.
        subprocess.run(["mount", "-o", "remount,size=80m", data], check=True)
        wait_for(lambda: len(receiver.instances()) == len(kept), "the rows follow")
        assert [path for path in receiver.waiting() if path.parent.name != "left"] == []
        for path in kept:
            row = receiver.instance(pydicom.dcmread(path).SOPInstanceUID)
            assert row is not None
            assert dataset_digest(receiver.layout.root / row.path) == dataset_digest(path)
        assert len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == 40
        assert receiver.stop() == 0
    finally:
        if receiver.is_alive():
            receiver.kill()
        receiver.db.close()
        subprocess.run(["umount", data], check=True)


def test_a_failed_sync_refuses_all_that_follows_until_the_restart(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.prelude = (
        "import os, pathlib\n"
        "def failing(real):\n"
        "    def sync(fd):\n"
        "        if pathlib.Path('broken').exists(): raise OSError(5, 'Input/output error')\n"
        "        real(fd)\n"
        "    return sync\n"
        "os.fsync, os.fdatasync = failing(os.fsync), failing(os.fdatasync)\n"
    )
    receiver.start()
    files = write_study(ct_study(2), tmp_path)
    assoc = associate(receiver)
    (receiver.home / "broken").touch()
    assert assoc.send_c_store(pydicom.dcmread(files[0])).Status == 0xA700
    (receiver.home / "broken").unlink()
    assert assoc.send_c_store(pydicom.dcmread(files[1])).Status == 0xA700
    assoc.release()
    wait_for(lambda: rejection(receiver, "ECHO") == (2, 3, 1), "each process has noticed")
    assert "synced" in space.degraded(receiver.layout)
    assert peers.echoscu(receiver.port, "BROOKBOX")
    receiver.stop()
    receiver.start()
    assert len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == 2


def test_an_error_of_ours_is_a_processing_failure_logged_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.prelude = (
        "from appliance.intake.draft import Draft\n"
        "def broken(self): raise RuntimeError('a mistake of ours')\n"
        "Draft._keep = broken\n"
    )
    receiver.start()
    report = peers.storescu(write_study(ct_study(1), tmp_path), receiver.port, "ECHO")
    assert report.acknowledged == []
    assert "0x110" in report.text
    assert receiver.text().count("instance not kept") == 1
    assert "a mistake of ours" in receiver.text()
    receiver.log.write_text("")  # it was looked at
