"""The first program of a plain process: sets its limits, hides the node from it, becomes it.

Run as a script of its own by `plain_process`, with the plan as JSON on standard
input, so that nothing has to happen between fork and exec of a worker with threads.
It imports nothing of ours and nothing that is slow.

A worker that is root gets three processes: this one, which the worker signals; the
first process of a new pid namespace, whose end is the end of everything in it; and
the stream's program, as another user.  Otherwise this one becomes the program.
What goes wrong before that is one line on the descriptor named by the last argument.
"""

# ruff: noqa: PTH103, PTH112, PTH116, PTH120
# pathlib takes longer to import than everything else here together.

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_NEWNS, _NEWIPC, _NEWPID, _NEWNET = 0x20000, 0x8000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT = 1, 2, 4, 8, 32
_BIND, _REC, _PRIVATE = 4096, 16384, 1 << 18
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1

_libc = ctypes.CDLL(None, use_errno=True)


def main(status: int) -> None:
    """Do as the plan on standard input says; does not return."""
    plan = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _die_with_parent()
    try:
        if plan["confine"] is None:
            _become(plan)
        _confine(plan["confine"])
        _lead(plan, status)
    except OSError as error:
        os.write(status, json.dumps([error.errno, f"{error}"]).encode())
        os._exit(125)


def probe() -> None:
    """Exit with 0 when this user may make the namespaces that a plain process is kept in."""
    try:
        _unshare(_NEWNS | _NEWIPC | _NEWPID | _NEWNET)
        _mount("none", "/", "", _REC | _PRIVATE)
        _mount("tmpfs", "/mnt", "tmpfs", _NOSUID, "size=64k")
    except OSError as error:
        sys.exit(str(error))


def _lead(plan: dict[str, Any], status: int) -> None:
    """Start the first process of the pid namespace, pass SIGTERM on, end as it ends."""
    first = os.fork()
    if first == 0:
        try:
            _die_with_parent()
            _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
            _reap(plan, status)
        except OSError as error:
            os.write(status, json.dumps([error.errno, f"{error}"]).encode())
        os._exit(125)
    os.close(status)
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(first, number))
    os._exit(_code(os.waitpid(first, 0)[1]))


def _reap(plan: dict[str, Any], status: int) -> None:
    """Be the init of the namespace: start the program, bury what dies, end with the program."""
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(-1, number))
    program = os.fork()
    if program == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            os.setsid()
            _become(plan)
        except OSError as error:
            os.write(status, json.dumps([error.errno, f"{error}"]).encode())
        os._exit(125)
    os.close(status)
    while True:
        pid, ended = os.wait()
        if pid == program:
            os._exit(_code(ended))


def _become(plan: dict[str, Any]) -> None:
    """Take on limits and user, and become the program."""
    os.nice(plan["nice"])
    for name, most in plan["limits"].items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(number, (most, most))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if plan["uid"] is not None:
        os.setgroups([])
        os.setresgid(plan["gid"], plan["gid"], plan["gid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    os.umask(0o022)
    os.chdir(plan["cwd"])
    os.execvpe(plan["command"][0], plan["command"], plan["environment"])


def _confine(confine: dict[str, Any]) -> None:
    """Make namespaces of its own, in which only what the plan names is left of the node."""
    _unshare(_NEWNS | _NEWIPC | _NEWPID | (0 if confine["network"] else _NEWNET))
    if not confine["network"]:
        _loopback_up()
    _mount("none", "/", "", _REC | _PRIVATE)
    # Opened before anything is covered: a source may stand below what is covered.
    kept = [(os.open(path, os.O_PATH), path) for path in confine["kept"]]
    bound = [(os.open(one["source"], os.O_PATH), one) for one in confine["bound"]]
    for path, options in sorted(confine["covered"].items()):
        if os.path.isdir(path):
            _mount("tmpfs", path, "tmpfs", _NOSUID | _NODEV, options)
    for number, path in kept:
        if not _is_there(number, path):
            _bind(number, path, read_only=True)
    for path, options in confine["made"].items():
        os.makedirs(path, 0o755, exist_ok=True)
        _mount("tmpfs", path, "tmpfs", _NOSUID | _NODEV, options)
    for number, one in bound:
        _bind(number, one["target"], one["read_only"])
    for number, _ in [*kept, *bound]:
        os.close(number)


def _is_there(number: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(number), os.stat(path))
    except OSError:
        return False


def _bind(number: int, target: str, read_only: bool) -> None:
    source = f"/proc/self/fd/{number}"
    if os.path.isdir(source):
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(source, target, "", _BIND)
    flags = _REMOUNT | _BIND | _NOSUID | _NODEV
    _mount("none", target, "", flags | (_RDONLY if read_only else 0))


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        fcntl.ioctl(one, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _die_with_parent() -> None:
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(125)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        _fail("prctl")


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        _fail("unshare")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    words = [word.encode() for word in (source, target, kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), options.encode()) != 0:
        _fail(f"mount {target}")


def _fail(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    if sys.argv[1] == "probe":
        probe()
    else:
        os.set_inheritable(int(sys.argv[1]), False)
        main(int(sys.argv[1]))
