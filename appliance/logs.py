"""JSON lines on standard output; supervisord keeps the files.

The message is a constant phrase, facts are fields, ids are bound once.  Patient
names and IDs never appear: a field of such a name is dropped here as the last
resort.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, MutableMapping
from typing import Any, ClassVar, cast

import structlog
from structlog.contextvars import bound_contextvars

_NEVER = {"patient_name", "patient_id", "patient", "birth_date", "other_patient_ids"}
# Libraries that quote what they stumble over: values of a patient's data set.
_QUOTING = ("pydicom", "pynetdicom")
_MOST_LINES = 10_000
_TOGETHER_SECONDS = 0.02
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def set_up(process: str, level: str = "info") -> None:
    """Log as JSON lines from now on; call once, first thing in a process."""
    logging.basicConfig(level=logging.WARNING, force=True, handlers=[_LibraryHandler()])
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    for library in _QUOTING:
        warnings.filterwarnings("ignore", module=library)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            functools.partial(_name_process, process),
            _drop_patients,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ],
        logger_factory=_SafeLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    set_level(level)


def set_level(level: str) -> None:
    """Log this level and above from now on, in every thread."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]))


def get() -> structlog.typing.FilteringBoundLogger:
    """Give the logger: `log.info("job started", instances=n)`."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@contextlib.contextmanager
def bound(**ids: object) -> Iterator[None]:
    """Bind study, job and association ids to every line logged inside."""
    with bound_contextvars(**ids):
        yield


class Behind:
    """Writes lines in a thread of its own: to wake who reads them costs as much as an image.

    The first line after a pause is written soon, those of the next moments together, and a
    warning at once.  In their order, and none is left out unless the reader takes nothing for
    thousands of lines.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def add(self, line: str) -> None:
        """Take a line; never waits."""
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def flush(self) -> None:
        """Write what is there now: before this process ends."""
        with self._lock, contextlib.suppress(IndexError):
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            _write("".join(lines))

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            self.flush()
            time.sleep(_TOGETHER_SECONDS)


def write_behind() -> Behind:
    """Write lines behind the work that logs them, from now on; after the last fork."""
    _SafeLogger.behind = Behind()
    return _SafeLogger.behind


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(text)
        sys.stdout.flush()


class _SafeLogger:
    """Write one line; a full log disk never raises into the work that logs."""

    behind: ClassVar[Behind | None] = None

    def msg(self, message: str) -> None:
        if self.behind is None:
            _write(message + "\n")
        else:
            self.behind.add(message + "\n")

    def at_once(self, message: str) -> None:
        """Write a line that tells of trouble, and before it those that stand before it."""
        self.msg(message)
        if self.behind is not None:
            self.behind.flush()

    debug = info = log = msg
    warning = warn = error = critical = fatal = exception = at_once


class _SafeLoggerFactory:
    def __call__(self, *args: object) -> _SafeLogger:
        return _SafeLogger()


class _LibraryHandler(logging.Handler):
    """Turn what libraries say at WARNING and above into our own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        # Not by their loggers' level: pydicom sets its own when it is imported.
        if record.name.split(".")[0] in _QUOTING:
            return
        get().warning("library message", library=record.name, said=record.getMessage()[:500])


def _name_process(
    process: str, logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    # Not bound: what is bound is not seen in the threads that libraries start.
    event["process"] = process
    return event


def _drop_patients(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name in _NEVER & event.keys():
        event[name] = "(left out)"
    return event
