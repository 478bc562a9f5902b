"""Whether the kernel believes that its clock is kept right: adjtimex(2), which only asks here."""

from __future__ import annotations

import ctypes
import time
from datetime import timedelta

_TIME_ERROR = 5
_LARGER_THAN_TIMEX = 512


def is_synchronised() -> bool | None:
    """Say whether something, such as NTP, keeps the clock right; None when it is not told.

    A container may be forbidden to ask, and some hypervisors keep a clock right without
    telling the kernel.
    """
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_LARGER_THAN_TIMEX))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def up() -> timedelta:
    """Say for how long the machine has been up, in suspend too."""
    return timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
