"""pynetdicom as SCU: what its users must know to send one message after the other."""

from __future__ import annotations

import functools
from typing import Any

from pynetdicom.association import Association

from tests.kit.waiting import wait_for


def awake(assoc: Association) -> Association:
    """Give an association for its next message, once its reactor has woken after the last one.

    pynetdicom 3.0.4 stops its reactor while a message is sent.  One that had not yet woken
    since the last message counts as stopped, wakes in the middle of the next, and takes its
    answer away: "Received unexpected C-STORE service message" (its issue 875).  The faster
    the peer answers, the more likely.
    """
    wait_for(lambda: not assoc._is_paused or assoc.is_aborted, "pynetdicom's reactor is awake")
    return assoc


def wait_before_each_message() -> None:
    """Have every association of this process do so by itself, from now on."""
    for name in ("send_c_store", "send_c_echo"):
        send = getattr(Association, name)
        if not hasattr(send, "__wrapped__"):
            setattr(Association, name, _waiting(send))


def _waiting(send: Any) -> Any:
    @functools.wraps(send)
    def sending(assoc: Association, *args: Any, **words: Any) -> Any:
        return send(awake(assoc), *args, **words)

    return sending
