"""Why a run ended, in words that name the key of info.json to change.  Pure.

Both executors gather facts and ask here, so that a container and a plain process
say the same thing of the same end.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from appliance.streams.limits import Limits
from appliance.worker.executor import How


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run that is over; `stopped_for` is empty when it ended by itself."""

    exit_code: int | None
    stopped_for: How | None = None
    said: str = ""  # the watch's sentence when it was stopped for output or memory
    out_of_memory: bool = False
    pids_refused: bool = False
    log_tail: str = ""
    job_id: int = 0

    @property
    def again(self) -> str:
        """What to do when a key is to be changed."""
        return f"change info.json, then: brookbox jobs retry {self.job_id}"


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended, in a word, a sentence and a remedy."""

    how: How
    sentence: str = ""
    remedy: str = ""


_LOOK = "read its log; it says what it did last"

# What programs print when they meet a limit that the kernel does not report to us.
_SPACE = re.compile(r"No space left on device|ENOSPC|Disk quota exceeded", re.I)
_SHM = re.compile(r"insufficient shared memory|/dev/shm|shm_open|Bus error", re.I)
_MEMORY = re.compile(r"\bMemoryError\b|bad_alloc|Cannot allocate memory|Out of memory", re.I)
_PIDS = re.compile(
    r"can't start new thread|Resource temporarily unavailable|fork: retry|pthread_create", re.I
)
_SIZE = re.compile(r"File too large|File size limit exceeded|EFBIG", re.I)
_NETWORK = re.compile(
    r"Network is unreachable|Temporary failure in name resolution|Could not resolve host"
    r"|Name or service not known", re.I,
)  # fmt: skip
# The init of a container says so when there is no such program.
_NO_PROGRAM = re.compile(r"\[FATAL tini.*?\] exec (.+) failed: (.+)")
_READ_ONLY = re.compile(r"Read-only file system|EROFS", re.I)


def ending(facts: Facts, limits: Limits) -> Ending:
    """Say how a run ended; a run that was stopped ended by that, whatever its exit code."""
    if facts.stopped_for is not None:
        return _stopped(facts, facts.stopped_for, limits)
    if facts.exit_code == 0:
        return Ending("exited")
    if facts.out_of_memory:
        return _out_of_memory(facts, limits)
    if facts.pids_refused:
        return _too_many_pids(facts, limits)
    return _by_exit_code(facts, limits)


def never_started(said: str) -> Ending:
    """Say that the program itself could not be started, which is the stream's own fault."""
    sentence = f"Its program could not be started: {said}."
    return Ending("exited", sentence, "correct command in info.json")


def unavailable(sentence: str, remedy: str) -> Ending:
    """Say that the machine failed the run, which may go again."""
    return Ending("unavailable", sentence, remedy)


def _stopped(facts: Facts, how: How, limits: Limits) -> Ending:
    if how == "timeout":
        minutes = f"{limits.timeout_minutes:g} min"
        return Ending(
            how, f"It timed out after {minutes}: raise timeout_minutes in info.json.", facts.again
        )
    if how == "memory":
        return _out_of_memory(facts, limits)
    if how == "cancelled":
        return Ending(how, "It was cancelled.", f"brookbox jobs retry {facts.job_id}")
    if how == "stopped":
        return Ending(how, "The worker was stopped.", "nothing: it runs again by itself")
    if how == "unavailable":
        return unavailable(f"{facts.said}.", "make room on it: it runs again by itself")
    return Ending(how, f"{facts.said}.", facts.again)


def _out_of_memory(facts: Facts, limits: Limits) -> Ending:
    sentence = (
        f"It ran out of memory at {limits.memory_gb:g} GB: raise memory_gb in info.json. "
        "Files in /tmp, HOME and /dev/shm count too."
    )
    return Ending("memory", sentence, facts.again)


def _too_many_pids(facts: Facts, limits: Limits) -> Ending:
    sentence = f"It needed more than {limits.pids} processes and threads: raise pids in info.json."
    return Ending("pids", sentence, facts.again)


def _by_exit_code(facts: Facts, limits: Limits) -> Ending:
    code, tail = facts.exit_code, facts.log_tail
    # A shell and tini give 128 + the signal, a process of our own minus the signal.
    number = (code or 0) - 128 if (code or 0) > 128 else -(code or 0)
    if code in (126, 127) and (found := _NO_PROGRAM.search(tail)):
        return never_started(f"{found[1]}: {found[2]}")
    if number == signal.SIGXFSZ or _SIZE.search(tail):
        sentence = f"One file grew over {limits.output_gb:g} GB: raise output_gb in info.json."
        return Ending("output", sentence, facts.again)
    if number == signal.SIGBUS or (_SHM.search(tail) and _SPACE.search(tail)):
        return _no_room(facts, f"/dev/shm ({limits.shm_mb} MB) was full: raise shm_mb")
    if _SPACE.search(tail):
        room = f"/tmp or HOME ({limits.tmp_mb} MB each) or /dev/shm ({limits.shm_mb} MB) was full"
        return _no_room(facts, f"{room}: raise tmp_mb or shm_mb")
    if _PIDS.search(tail):
        return _too_many_pids(facts, limits)
    if _MEMORY.search(tail):
        return _out_of_memory(facts, limits)
    if _NETWORK.search(tail):
        sentence = f"{_ended_with(code)} It has no network: set network to true in info.json."
        return Ending("exited", sentence, facts.again)
    if _READ_ONLY.search(tail):
        sentence = f"{_ended_with(code)} Only /output, /tmp and HOME can be written to."
        return Ending("exited", sentence, _LOOK)
    return Ending("exited", _ended_with(code), _LOOK)


def _no_room(facts: Facts, said: str) -> Ending:
    sentence = f"{_ended_with(facts.exit_code)} Most likely {said} in info.json."
    return Ending("exited", sentence, facts.again)


def _ended_with(code: int | None) -> str:
    number = (code or 0) - 128 if (code or 0) > 128 else -(code or 0)
    if number > 0:
        try:
            return f"It was ended by {signal.Signals(number).name} (exit code {code})."
        except ValueError:
            pass
    return f"It ended with exit code {code}."
