"""Test a destination step by step, for a person: TCP, association, C-ECHO."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.dicom import statuses
from appliance.errors import AssociationFailed
from appliance.router.association import ECHO_PAIR, Association, open_wire
from appliance.router.rules import Destination
from appliance.settings import Settings


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a test: its name, whether it went well, what happened, what to try."""

    name: str
    is_good: bool
    sentence: str
    remedy: str
    seconds: float


def test_destination(destination: Destination, settings: Settings) -> list[Step]:
    """Connect, associate and echo; the list ends with the first step that failed.

    The destination may be this node itself.
    """
    steps: list[Step] = []
    began = time.monotonic()
    walk = _walk(destination, settings)
    names = iter(("connect", "association", "echo"))
    try:
        for sentence in walk:
            now = time.monotonic()
            steps.append(Step(next(names), True, sentence, "", now - began))
            began = now
    except AssociationFailed as problem:
        seconds = time.monotonic() - began
        steps.append(Step(next(names), False, str(problem), problem.remedy, seconds))
    return steps


def _walk(destination: Destination, settings: Settings) -> Iterator[str]:
    connection = open_wire(destination, settings, lambda: False, may_be_self=True)
    try:
        yield f"{destination} accepts connections."
        assoc = Association(connection, destination, [ECHO_PAIR])
        yield f"{destination} accepts the association of {destination.own_ae_title}."
        if why := assoc.refused.get(ECHO_PAIR):
            assoc.release()
            raise AssociationFailed(
                f"{destination} does not answer echoes: {why}.",
                remedy="nothing, when it takes instances: brookbox send store FILE",
            )
        status = assoc.echo()
        assoc.release()
        if status != statuses.SUCCESS:
            raise AssociationFailed(
                f"{destination} answered the echo with {statuses.store_status(status)}.",
                remedy="read that node's log",
            )
        yield f"{destination} answered the echo."
    finally:
        connection.close()
