"""Work in a process of its own, that says what it came to."""

from __future__ import annotations

import gc
import json
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from appliance.errors import BrookboxError
from benchmarks.plan import NotMeasured


@dataclass(frozen=True, slots=True)
class Ending:
    """How such a process ended: what its work gave, and when (time.perf_counter).

    `problem` is "" when all is well.
    """

    problem: str
    answer: Any
    ended: float


def start(work: Callable[[], Any], gate: tuple[int, int] | None = None) -> tuple[int, int]:
    """Fork a process for this work, whose answer JSON can hold; its id, and where it will tell.

    With a `gate` (a pipe's ends) it waits until everybody has closed the second end.
    """
    end, teller = os.pipe()
    if pid := os.fork():
        os.close(teller)
        return pid, end
    problem, answer = "it broke off", None
    try:
        gc.disable()
        if gate is not None:
            os.close(gate[1])
            os.read(gate[0], 1)
        answer, problem = work(), ""
    except (OSError, ValueError, struct.error, BrookboxError, NotMeasured) as error:
        problem = f"{type(error).__name__}: {error}"
    finally:
        with os.fdopen(teller, "w") as file:
            json.dump({"problem": problem, "answer": answer, "ended": time.perf_counter()}, file)
        os._exit(0)  # nothing of the parent's is undone here


def read(told: bytes) -> Ending:
    """Read what such a process told."""
    return Ending(**json.loads(told))
