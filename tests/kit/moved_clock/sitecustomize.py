"""Another wall clock for the Python processes that find this first: the real one, moved.

MOVED_CLOCK names a file with seconds, read at each look.  libfaketime cannot do it for a
whole node: where it leaves the steady clocks alone, sleeping until one of them fails.
"""

from __future__ import annotations

import datetime as module
import os
import time
from typing import Any

_File = os.environ.get("MOVED_CLOCK", "")
_real_time, _Real = time.time, module.datetime


def _moved_by() -> float:
    try:
        with open(_File, encoding="ascii") as file:
            return float(file.read() or 0)
    except (OSError, ValueError):
        return 0.0


class _Kind(type(_Real)):  # type: ignore[misc]
    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, _Real)


class _Moved(_Real, metaclass=_Kind):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.fromtimestamp(time.time(), tz)


if _File:
    time.time = lambda: _real_time() + _moved_by()
    module.datetime = _Moved  # type: ignore[misc]
