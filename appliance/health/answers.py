"""Ask a process of the node whether it answers: C-ECHO, HTTP, gearmand's `version`.

The C-ECHO is made of constant bytes instead of by pynetdicom: the housekeeper and
`brookbox up` run for months, and would hold pydicom and numpy (40 MB each) for one
question a minute.
"""

from __future__ import annotations

import http.client
import socket
import struct

from appliance.dicom.names import IMPLEMENTATION_CLASS_UID
from appliance.settings import Settings

_VERIFICATION = b"1.2.840.10008.1.1"
_IMPLICIT_VR_LITTLE_ENDIAN = b"1.2.840.10008.1.2"
_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_ASSOCIATE_AC = 0x02
_ASSOCIATE_RJ = 0x03
_P_DATA = 0x04
_LARGEST_ANSWER = 65536


def receiver_answers(settings: Settings, patience_seconds: float = 10.0) -> str:
    """Send the receiver a C-ECHO; "" when it answered, else why not.

    A rejection for good is an answer, too: the rules may keep this machine, or our own
    AE title, out.
    """
    host, port = _reachable(settings.receiver.address), settings.receiver.port
    title = settings.node.ae_title
    why = echo(host, port, title, title, patience_seconds)
    return "" if why == _refusal(host, port) else why


def web_answers(settings: Settings, patience_seconds: float = 10.0) -> str:
    """Ask the web for /health; "" when it answered, else why not."""
    host, port = _reachable(settings.web.address), settings.web.port
    connection = http.client.HTTPConnection(host, port, timeout=patience_seconds)
    try:
        connection.request("GET", "/health", headers={"Host": f"127.0.0.1:{port}"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no answer at {host}:{port}: {error}"
    finally:
        connection.close()
    # 503 is the index's trouble: the web says so, and a restart of it would mend nothing.
    return "" if status < 500 or status == 503 else f"it answers {status}"


def gearmand_answers(settings: Settings, patience_seconds: float = 5.0) -> str:
    """Ask the first gearmand for its version; "" when it answered, else why not."""
    server = settings.queue.servers[0]
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=patience_seconds) as connection:
            connection.sendall(b"version\r\n")
            said = connection.recv(256)
    except OSError as error:
        return f"no answer at {server}: {error}"
    return "" if said.startswith(b"OK") else f"what answers at {server} is not gearmand"


def echo(host: str, port: int, called: str, calling: str, patience_seconds: float) -> str:
    """Verify a DICOM node (PS3.7 9.1.5); "" when it answered with success, else why not."""
    try:
        with socket.create_connection((host, port), timeout=patience_seconds) as connection:
            connection.sendall(_associate_request(called, calling))
            kind, body = _read_pdu(connection)
            if kind == _ASSOCIATE_RJ:
                is_for_good = body[1:2] == b"\x01"  # PS3.8 9.3.4
                return _refusal(host, port) + ("" if is_for_good else " for now")
            if kind != _ASSOCIATE_AC:
                return f"{host}:{port} breaks the association off"
            connection.sendall(_echo_request())
            kind, body = _read_pdu(connection)
            connection.sendall(struct.pack(">BxIxxxx", 0x05, 4))  # A-RELEASE-RQ
            _read_pdu(connection)
    except (OSError, struct.error, EOFError) as error:
        return f"no answer at {host}:{port}: {error or 'it closed the connection'}"
    status = _status_of(body) if kind == _P_DATA else None
    return "" if status == 0 else f"{host}:{port} does not answer the C-ECHO with success"


def _refusal(host: str, port: int) -> str:
    return f"{host}:{port} refuses the association"


def _reachable(address: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)


def _associate_request(called: str, calling: str) -> bytes:
    context = _part(
        0x20,
        struct.pack(">Bxxx", 1)
        + _part(0x30, _VERIFICATION)
        + _part(0x40, _IMPLICIT_VR_LITTLE_ENDIAN),
    )
    user = _part(
        0x50,
        _part(0x51, struct.pack(">I", 16384)) + _part(0x52, IMPLEMENTATION_CLASS_UID.encode()),
    )
    titles = called.encode().ljust(16) + calling.encode().ljust(16)
    body = struct.pack(">Hxx", 1) + titles + bytes(32)
    body += _part(0x10, _APPLICATION_CONTEXT) + context + user
    return struct.pack(">BxI", 0x01, len(body)) + body


def _echo_request() -> bytes:
    """Give the P-DATA-TF of a C-ECHO-RQ with message id 1 (PS3.7 9.3.5.1)."""
    command = b"".join(
        struct.pack("<HHI", 0, element, len(value)) + value
        for element, value in (
            (0x0002, _VERIFICATION + b"\0"),
            (0x0100, struct.pack("<H", 0x0030)),
            (0x0110, struct.pack("<H", 1)),
            (0x0800, struct.pack("<H", 0x0101)),
        )
    )
    command = struct.pack("<HHII", 0, 0, 4, len(command)) + command
    pdv = struct.pack(">IBB", len(command) + 2, 1, 0x03) + command
    return struct.pack(">BxI", _P_DATA, len(pdv)) + pdv


def _status_of(body: bytes) -> int | None:
    """Find (0000,0900) in the command of a P-DATA-TF; None when there is none."""
    at = 6
    while at + 8 <= len(body):
        group, element, length = struct.unpack_from("<HHI", body, at)
        if (group, element) == (0, 0x0900):
            status: int = struct.unpack_from("<H", body, at + 8)[0]
            return status
        at += 8 + length
    return None


def _read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    kind, length = struct.unpack(">BxI", _read(connection, 6))
    return kind, _read(connection, min(length, _LARGEST_ANSWER))


def _read(connection: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = connection.recv(count - len(got))
        if not more:
            raise EOFError
        got += more
    return got


def _part(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value
