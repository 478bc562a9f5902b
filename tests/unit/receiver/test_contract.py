"""What the receiver leans on in pynetdicom, each attribute by its name.

A new pynetdicom that lacks one, or does something else by it, fails here and not at night.
"""

from __future__ import annotations

import inspect
import ssl

import pytest
from pynetdicom import AE, _config, evt, sop_class, timer
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.presentation import PresentationContext, build_context, negotiate_unrestricted
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.transport import AddressInformation, AssociationSocket, RequestHandler
from pynetdicom.transport import ThreadedAssociationServer as Server

from appliance.receiver import stock
from appliance.receiver.negotiation import Negotiator
from tests.service.receiver.peer import raw_request


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (A_ASSOCIATE_RQ, ("decode", "to_primitive")),
        (A_ASSOCIATE_AC, ("from_primitive", "encode")),
        (PresentationContext, ("context_id", "abstract_syntax", "transfer_syntax")),
        (AE, ("make_server", "add_supported_context", "implementation_class_uid",
              "implementation_version_name", "maximum_pdu_size", "maximum_associations",
              "acse_timeout", "dimse_timeout", "network_timeout")),
        (Server, ("process_request", "server_bind", "server_activate",
                  "handle_error")),
        (RequestHandler, ("local", "handle")),
        (AddressInformation, ("from_tuple",)),
        (AssociationSocket, ("recv", "send", "close")),
        (Association, ("abort", "kill", "is_alive")),
        (evt, ("EVT_REQUESTED", "EVT_C_STORE", "EVT_DATA_RECV", "EVT_RELEASED", "EVT_ABORTED")),
        (_config, ("UNRESTRICTED_STORAGE_SERVICE", "LOG_HANDLER_LEVEL", "VALIDATORS")),
        (timer, ("time",)),
        (sop_class, ("uid_to_service_class",)),
        (ssl.SSLContext, ("sslsocket_class",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_it_has_what_is_used(owner: object, names: tuple[str, ...]) -> None:
    assert [name for name in names if not hasattr(owner, name)] == []


def test_calls_take_what_they_are_given() -> None:
    assert list(inspect.signature(negotiate_unrestricted).parameters)[:3] == [
        "rq_contexts", "ac_contexts", "roles",
    ]  # fmt: skip
    assert list(inspect.signature(Server.process_request).parameters)[1:] == [
        "request", "client_address",
    ]  # fmt: skip
    taken = inspect.signature(AE.make_server).parameters
    assert {"evt_handlers", "server_class"} <= set(taken)
    assert "request_handler" in inspect.signature(Server.__init__).parameters
    assert "kwargs" in taken, "and make_server passes it on"
    ct = "1.2.840.10008.5.1.4.1.1.2"
    assert sop_class.uid_to_service_class(ct) is StorageServiceClass
    assert build_context(ct).abstract_syntax == ct


def test_a_server_without_a_port_binds_and_listens_nowhere() -> None:
    class Silent(stock._Server):
        pass

    ae = AE(ae_title="NODE")
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.make_server(("127.0.0.1", 104), evt_handlers=[], server_class=Silent)
    assert server.socket is None or server.socket.fileno() < 0


def test_the_answer_is_these_bytes() -> None:
    """A golden answer: an async window, extended negotiation and roles are left out of it."""
    answer = Negotiator(131072).answer(raw_request(b"ECHO", b"CT1"))
    assert answer.is_echo_only and list(answer.contexts) == [1]
    assert (answer.called_ae_title, answer.calling_ae_title) == ("ECHO", "CT1")
    assert answer.accepted == (
        b"\x02\x00\x00\x00\x00\xc2\x00\x01\x00\x00ECHO            CT1             "
        + bytes(32)
        + b"\x10\x00\x00\x151.2.840.10008.3.1.1.1"
        + b"!\x00\x00\x19\x01\x00\x00\x00@\x00\x00\x111.2.840.10008.1.2"
        + b"P\x00\x00DQ\x00\x00\x04\x00\x02\x00\x00"
        + b"R\x00\x00,2.25.292341106431424203421683418406325101213U\x00\x00\x08BROOKBOX"
    )


def test_answers_are_remembered_and_not_too_many() -> None:
    negotiator = Negotiator(0)
    first = raw_request(b"ECHO", b"CT1")
    answer = negotiator.answer(first)
    assert negotiator.answer(first) is answer and negotiator.knows(first)
    for number in range(300):
        negotiator.answer(raw_request(b"ECHO", b"N%d" % number))
    assert not negotiator.knows(first)
    assert len(negotiator._known) == 256
    negotiator.forget()
    assert not negotiator.knows(raw_request(b"ECHO", b"N299"))
