"""kill -9 of a receiving process at each step of a C-STORE, FT-01 to FT-08.

Nothing of an instance that was not answered is lost by it: the sender sends again, and
the node has it once.  A process dies in the step that the test names when the file
`armed` is there; it takes that away, so that the next one lives.
"""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import pydicom
from pynetdicom.association import Association

from tests.faults import checker
from tests.kit import peers
from tests.kit.dicom import ct_slice, ct_study, write, write_study
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import associate, half_a_c_store, wire

DIES = """
import os, pathlib, signal, threading
from appliance.disk import commit, part_file
from appliance.intake import rows
from appliance.receiver import hot_loop
armed = pathlib.Path("armed").absolute()
def die():
    if armed.exists():
        armed.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
def before(owner, name):
    whole = getattr(owner, name)
    def dying(*args, **words):
        die()
        return whole(*args, **words)
    setattr(owner, name, dying)
def after(owner, name):
    whole = getattr(owner, name)
    def dying(*args, **words):
        done = whole(*args, **words)
        die()
        return done
    setattr(owner, name, dying)
"""

# The writer works in a thread of its own: it waits until the answer was sent, then dies.
AFTER_THE_ANSWER = """
from appliance.receiver import hot_loop
sent, finish, whole = threading.Event(), hot_loop.HotLoop._finish, {owner}.{name}
def finished(self, *args):
    finish(self, *args)
    if armed.exists():
        sent.set()
def dying(self, *args):
    if {when} and armed.exists() and sent.wait(60):
        die()
    return whole(self, *args)
hot_loop.HotLoop._finish, {owner}.{name} = finished, dying
"""


def killed_in(
    receiver: Receiver, step: str, folder: Path, *, is_answered: bool = False
) -> list[Path]:
    """Send three files, the second of which kills its process in a step; give the files.

    `is_answered` says whether that one is answered before, as its row follows the answer.
    """
    receiver.prelude = f"{DIES}{step}\n"
    receiver.start()
    files = write_study(ct_study(3), folder)
    assert len(peers.storescu(files[:1], receiver.port, "ECHO").acknowledged) == 1
    # Its row follows the answer: whoever writes it must not take the next one's trap for his own.
    wait_for(lambda: receiver.waiting() == [], "the first one has its row")
    armed = receiver.home / "armed"
    armed.touch()
    report = peers.storescu(files[1:], receiver.port, "ECHO")
    wait_for(lambda: not armed.exists(), "the step was reached")
    if is_answered:
        assert files[1] in report.acknowledged
    else:
        assert report.acknowledged == []
        assert report.exit_code != 0
    return files


def is_kept_once(receiver: Receiver, files: list[Path]) -> None:
    """Send again, as the sender does; see that all of it is there once, and nothing else."""
    wait_for(lambda: peers.echoscu(receiver.port, "ECHO"), "it receives again")
    wait_for(lambda: receiver.waiting() == [], "what was left is adopted or swept")
    assert len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == len(files)
    assert len(receiver.instances()) == len(receiver.stored()) == len(files)
    told = [checker.Acknowledged(file, "ECHO") for file in files]
    evidence = checker.Evidence(receiver.layout.root, receiver.db, told, oldest_temp=timedelta(0))
    for part in (checker.acknowledged_is_kept, checker.store_matches_index):
        assert list(part(evidence)) == []


def kill_the_process_of(receiver: Receiver, assoc: Association) -> None:
    """Kill the process that an association belongs to."""
    calling = assoc.requestor.ae_title
    [row] = wait_for(
        lambda: [row for row in receiver.associations() if row.calling_ae_title == calling],
        "its row is there",
    )
    before = {one.pid for one in receiver.children()}
    pid = int(row.process.split("/")[1])
    assert pid in before
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len({one.pid for one in receiver.children()} - before) == 1, "a new one")


def test_ft_01_killed_before_the_first_pdv(receiver: Receiver, tmp_path: Path) -> None:
    receiver.start()
    files = write_study(ct_study(2), tmp_path)
    assoc = associate(receiver)
    assert receiver.instances() == receiver.waiting() == []
    kill_the_process_of(receiver, assoc)
    assoc.abort(block=False)
    is_kept_once(receiver, files)


def test_ft_02_killed_in_mid_data_set(receiver: Receiver, tmp_path: Path) -> None:
    receiver.start()
    ds = ct_slice(size=256)
    file = write(ds, tmp_path / "a.dcm")
    assoc = associate(receiver)
    quiet_at = wait_for(receiver.associations, "its row is there")[0].last_activity_at
    wire(assoc).sendall(half_a_c_store(ds, file))
    wait_for(lambda: receiver.associations()[0].last_activity_at > quiet_at, "half has come", 20)
    kill_the_process_of(receiver, assoc)
    assoc.abort(block=False)
    assert receiver.instances() == []
    is_kept_once(receiver, [file])


def test_ft_03_killed_when_the_file_is_written_and_not_linked(
    receiver: Receiver, tmp_path: Path
) -> None:
    is_kept_once(receiver, killed_in(receiver, "before(part_file.PartFile, 'link')", tmp_path))


def test_ft_04_killed_when_the_file_is_linked_and_not_synced(
    receiver: Receiver, tmp_path: Path
) -> None:
    is_kept_once(receiver, killed_in(receiver, "before(commit.Commit, 'file')", tmp_path))


def test_ft_05_killed_when_it_is_durable_and_not_answered(
    receiver: Receiver, tmp_path: Path
) -> None:
    is_kept_once(receiver, killed_in(receiver, "after(hot_loop.HotLoop, '_keep')", tmp_path))


def test_ft_06_killed_when_it_is_answered_and_has_no_row(
    receiver: Receiver, tmp_path: Path
) -> None:
    # Not for the row of the association alone, which may be written before an answer.
    step = AFTER_THE_ANSWER.format(owner="rows.Rows", name="_write_batch", when="self.batch")
    files = killed_in(receiver, step, tmp_path, is_answered=True)
    uid = str(pydicom.dcmread(files[1], stop_before_pixels=True).SOPInstanceUID)
    wait_for(lambda: receiver.instance(uid) is not None, "what was answered is adopted")
    is_kept_once(receiver, files)


def test_ft_06_killed_when_the_row_is_there_and_its_name_in_incoming_too(
    receiver: Receiver, tmp_path: Path
) -> None:
    step = AFTER_THE_ANSWER.format(owner="rows.Rows", name="_unlink", when="True")
    files = killed_in(receiver, step, tmp_path, is_answered=True)
    uid = str(pydicom.dcmread(files[1], stop_before_pixels=True).SOPInstanceUID)
    wait_for(lambda: receiver.instance(uid) is not None, "what was answered is kept")
    is_kept_once(receiver, files)


def test_ft_07_killed_between_two_c_stores(receiver: Receiver, tmp_path: Path) -> None:
    receiver.start()
    files = write_study(ct_study(2), tmp_path)
    assoc = associate(receiver)
    assert assoc.send_c_store(pydicom.dcmread(files[0])).Status == 0x0000
    kill_the_process_of(receiver, assoc)
    assoc.abort(block=False)
    uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).SOPInstanceUID)
    assert receiver.instance(uid) is not None, "what was answered is kept"
    is_kept_once(receiver, files)


def test_ft_08_killed_idle(receiver: Receiver, tmp_path: Path) -> None:
    receiver.start()
    files = write_study(ct_study(2), tmp_path)
    assert receiver.associations() == []
    old = {one.pid for one in receiver.children()}
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len({one.pid for one in receiver.children()} - old) == 2, "two new ones")
    is_kept_once(receiver, files)
