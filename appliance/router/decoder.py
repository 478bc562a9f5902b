"""The process that decodes: `python -m appliance.router.decoder FD`, started by `decoding`.

On the socket FD come the words of an instance with two open files, its own and the one to
write; one answer goes back for each.  A forked process does the work of one instance: it
takes limits on, can open no file and no socket any more, and ends with it.  So neither a
codec's leak nor its crash reaches the next instance.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import sys
import warnings

from appliance import lifecycle
from appliance.dicom import decoded
from appliance.errors import CannotUnderstand

_MEMORY_BYTES = 3 << 30  # addresses, of which libraries reserve some hundred megabytes
_CPU_SECONDS = 600
_LONGEST_WORDS = 4096
_NICE = 10


def main(number: int) -> int:
    """Answer until nobody asks any more."""
    lifecycle.die_with_parent(signal.SIGKILL)
    decoded.load_decoders()
    warnings.simplefilter("ignore")
    channel = socket.socket(fileno=number)
    while True:
        words, files, _, _ = socket.recv_fds(channel, _LONGEST_WORDS, 2)
        if not words:
            return 0
        try:
            answer = _in_a_process_of_its_own(json.loads(words), files)
        finally:
            for file in files:
                os.close(file)
        channel.send(json.dumps(answer).encode())


def _in_a_process_of_its_own(words: dict[str, str | int], files: list[int]) -> dict[str, object]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.write(writing, json.dumps(_decode(words, files)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if told:
        answer: dict[str, object] = json.loads(told)
        return answer
    if code == -signal.SIGKILL:
        # As the kernel does when the machine has no memory left.
        return {"why": "The process that decoded it was killed.", "is_for_now": True}
    if code == -signal.SIGXCPU:
        return {"why": f"Decoding it took more than {_CPU_SECONDS} s of computing."}
    return {"why": "Its decoder crashed."}


def _decode(words: dict[str, str | int], files: list[int]) -> dict[str, object]:
    lifecycle.die_with_parent(signal.SIGKILL)
    os.nice(_NICE)
    most_bytes = int(words["most_bytes"])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with open(files[0], "rb") as source, open(files[1], "wb") as target:
            _limit(most_bytes)
            decoded.write(source, int(words["start"]), str(words["from"]), target, str(words["to"]))
    except CannotUnderstand as error:
        return {"why": str(error)}
    except MemoryError:
        return {"why": "It needs more memory to be decoded than is allowed."}
    except OSError as error:
        why = f"It cannot be decoded now: {error.strerror or error}."
        if error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT):
            why = "There is no room for it decoded."
        return {"why": why, "is_for_now": True}
    except Exception as error:  # noqa: BLE001 - this process's boundary: codecs raise anything
        return {"why": f"It cannot be decoded: its decoder gave it up ({type(error).__name__})."}
    return {}


def _limit(most_bytes: int) -> None:
    """Take limits on for good; what is open stays open, and nothing more can be opened."""
    for kind, most in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_FSIZE, most_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
