"""supervisord's XML-RPC over its unix socket: who runs, restart one, signal all.

The socket stands in data_root/run.  A path longer than the kernel's 108 bytes is
reached through an open folder instead.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from appliance.errors import NodeError

GROUP = "brookbox"
SOCKET = "supervisor.sock"

# supervisord appends a dot and its pid for a moment.
_LONGEST_PATH = 90


@dataclass(frozen=True, slots=True)
class Program:
    """One program as supervisord sees it; `pid` is 0 when it does not run."""

    name: str
    state: str  # RUNNING, STARTING, BACKOFF, STOPPED, FATAL, …
    pid: int
    says: str


def socket_address(run_folder: Path) -> str:
    """Give the address for supervisord, which is started in `run_folder`."""
    path = str(run_folder / SOCKET)
    return path if len(os.fsencode(path)) <= _LONGEST_PATH else f"/proc/self/cwd/{SOCKET}"


def programs(run_folder: Path) -> list[Program]:
    """List every program; NodeError when supervisord does not answer."""
    with _supervisor(run_folder) as rpc:
        found = cast("list[dict[str, Any]]", rpc.getAllProcessInfo())
    return [Program(one["name"], one["statename"], one["pid"], one["description"]) for one in found]


def restart(run_folder: Path, name: str) -> None:
    """Stop a program, by force when it does not obey, and start it again."""
    process = name if name == "gearmand" else f"{GROUP}:{name}"
    with _supervisor(run_folder) as rpc:
        with contextlib.suppress(xmlrpc.client.Fault):  # it does not run just now
            rpc.stopProcess(process)
        with contextlib.suppress(xmlrpc.client.Fault):  # it was started meanwhile
            rpc.startProcess(process, False)


def signal_group(run_folder: Path, signal_name: str) -> list[str]:
    """Send a signal, such as HUP, to every process of the node; give their names."""
    with _supervisor(run_folder) as rpc:
        told = cast("list[dict[str, Any]]", rpc.signalProcessGroup(GROUP, signal_name))
    return [one["name"] for one in told if one["status"] == 80]  # SUCCESS


@contextlib.contextmanager
def _supervisor(run_folder: Path) -> Iterator[Any]:
    try:
        folder = os.open(run_folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unreachable(run_folder) from error
    try:
        transport = _Transport(f"/proc/self/fd/{folder}/{SOCKET}")
        with xmlrpc.client.ServerProxy("http://supervisor", transport=transport) as proxy:
            yield proxy.supervisor
    except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
        raise _unreachable(run_folder) from error
    finally:
        os.close(folder)


def _unreachable(run_folder: Path) -> NodeError:
    return NodeError(
        f"supervisord does not answer at {run_folder / SOCKET}: the node does not run",
        remedy="brookbox up",
    )


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket, without importing supervisord into a process of ours."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _Connection(self._path)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("supervisor", timeout=60)
        self._path = path

    def connect(self) -> None:
        import socket

        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
