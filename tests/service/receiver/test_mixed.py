"""Several services on one association, and what is offered with them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from tests.kit import raw_scu
from tests.kit.dicom import ct_slice
from tests.kit.raw_scu import ASYNCHRONOUS, EXTENDED, ROLES, VERIFICATION, Cut, RawSCU
from tests.service.conftest import Receiver
from tests.service.receiver.sent import (
    BOTH,
    CT,
    ECHO,
    IMPLICIT,
    LITTLE,
    STORAGE,
    assert_kept,
    ct_of,
)

FINDS = """
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

make_server = AE.make_server

def find(event):
    for number in range(3):
        found = event.identifier
        found.PatientID = str(number)
        yield 0xFF00, found

def that_finds(self, address, evt_handlers=None, **words):
    self.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    return make_server(self, address, evt_handlers=[*evt_handlers, (evt.EVT_C_FIND, find)], **words)

AE.make_server = that_finds
"""


@pytest.fixture
def finding(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver that has a third service: a C-FIND handler of the test's own."""
    one = Receiver(tmp_path / "node", prelude=FINDS)
    try:
        yield one.start()
    finally:
        one.db.close()
        if one.is_alive():
            one.kill()


def test_c_store_and_c_echo_take_turns_on_one_association(shared: Receiver) -> None:
    with RawSCU(shared.port, BOTH) as scu:
        sent = []
        for number in range(10):
            one = ct_of(5_000 + number, number)
            assert scu.echo(ECHO) == 0
            assert scu.store(one.data_set, CT, one.sop_instance_uid, STORAGE) == 0
            assert scu.echo(ECHO, Cut(command=lambda: 3)) == 0
            sent.append(one)
        scu.release()
    assert_kept(shared, *sent)


def test_a_c_cancel_has_no_answer_and_ends_nothing(shared: Receiver) -> None:
    with RawSCU(shared.port, BOTH) as scu:
        sent = []
        for number in range(3):
            scu.cancel(STORAGE, number)  # one before, and two that are answered already
            one = ct_of(9_000, number)
            assert scu.store(one.data_set, CT, one.sop_instance_uid, STORAGE) == 0
            sent.append(one)
        scu.cancel(ECHO, 77)
        assert scu.echo(ECHO) == 0
        scu.release()
    assert_kept(shared, *sent)


@pytest.mark.parametrize(
    ("offered", "kind"),
    [
        (raw_scu.item(ASYNCHRONOUS, struct.pack(">HH", 8, 8)), ASYNCHRONOUS),
        (raw_scu.item(ASYNCHRONOUS, struct.pack(">HH", 0, 0)), ASYNCHRONOUS),
        (raw_scu.extended(CT, b"\2\0\1\1\0\0"), EXTENDED),
        (raw_scu.roles(CT, 1, 0), ROLES),
        (raw_scu.roles(CT, 1, 1), ROLES),
    ],
    ids=["a window of 8", "any window", "extended", "role SCU", "both roles"],
)
def test_what_is_offered_beside_storage_hinders_nothing(
    shared: Receiver, offered: bytes, kind: int
) -> None:
    with RawSCU(shared.port, BOTH, user_items=offered) as scu:
        if kind != ROLES:
            # Left out means one operation at a time, and nothing extended (PS3.7 D.3.3.3, D.3.3.5).
            assert kind not in scu.user_items
        elif ROLES in scu.user_items:
            assert scu.user_items[ROLES][-2] == 1  # the requestor stays an SCU
        one = ct_of(40_000)
        assert scu.store(one.data_set, CT, one.sop_instance_uid, STORAGE) == 0
        assert scu.echo(ECHO) == 0
        scu.release()
    assert_kept(shared, one)


def test_one_operation_at_a_time_is_answered_in_order_whatever_was_offered(
    shared: Receiver,
) -> None:
    window = raw_scu.item(ASYNCHRONOUS, struct.pack(">HH", 4, 4))
    with RawSCU(shared.port, BOTH, user_items=window) as scu:
        sent = [ct_of(20_000, number) for number in range(4)]
        stream = b"".join(
            scu.store_stream(one.data_set, CT, one.sop_instance_uid, STORAGE, Cut()) for one in sent
        )
        scu.socket.sendall(stream)
        assert [scu.response().message_id for _ in sent] == [1, 2, 3, 4]
        scu.release()
    assert_kept(shared, *sent)


def test_a_peer_that_takes_small_pdus_is_answered_in_such(shared: Receiver) -> None:
    with RawSCU(shared.port, BOTH, max_pdu=4096) as scu:
        one = ct_of(100_000)
        assert scu.store(one.data_set, CT, one.sop_instance_uid, STORAGE) == 0
        scu.release()
    assert_kept(shared, one)


def test_each_presentation_context_is_stored_in_its_own_syntax(shared: Receiver) -> None:
    contexts = {
        (1, CT): [IMPLICIT],
        (3, CT): [LITTLE, IMPLICIT],
        (255, CT): ["1.2.3.4.5", LITTLE],
        (5, VERIFICATION): [LITTLE],
    }
    with RawSCU(shared.port, contexts) as scu:
        assert scu.accepted == {1: IMPLICIT, 3: LITTLE, 255: "1.2.3.4.5", 5: LITTLE}
        sent = [ct_of(3_000, 1), ct_of(3_000, 2)]
        for one, context in zip(sent, (3, 255), strict=True):
            assert scu.store(one.data_set, CT, one.sop_instance_uid, context) == 0
        assert scu.echo(5) == 0
        scu.release()
    assert_kept(shared, *sent)
    rows = [shared.instance(one.sop_instance_uid) for one in sent]
    assert [row and row.transfer_syntax_uid for row in rows] == [LITTLE, "1.2.3.4.5"]


def test_a_third_service_goes_with_storage_and_verification(finding: Receiver) -> None:
    _config.LOG_HANDLER_LEVEL = "none"
    ae = AE(ae_title="THREE")
    ae.add_requested_context(CT, LITTLE)
    ae.add_requested_context(VERIFICATION)
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind, ImplicitVRLittleEndian)
    assoc = ae.associate("127.0.0.1", finding.port, ae_title="ECHO")
    assert assoc.is_established
    query = Dataset()
    query.QueryRetrieveLevel, query.PatientID = "STUDY", ""
    sent = []
    for number in range(2):
        ds = ct_slice(number + 1, size=32)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        assert assoc.send_c_store(ds).Status == 0
        found = list(assoc.send_c_find(query, StudyRootQueryRetrieveInformationModelFind))
        assert [status.Status for status, _ in found] == [0xFF00] * 3 + [0]
        assert [str(ds.PatientID) for _, ds in found if ds] == ["0", "1", "2"]
        assert assoc.send_c_echo().Status == 0
        sent.append(ds)
    assoc.release()
    for ds in sent:
        assert finding.instance(ds.SOPInstanceUID) is not None
    assert len(finding.stored()) == 2
