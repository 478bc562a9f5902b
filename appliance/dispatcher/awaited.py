"""What an open arrival waits for, as the dispatcher judges it; pages and command line say so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from appliance.dispatcher.completeness import judge, quiet_of
from appliance.index.arrivals import OpenArrival
from appliance.settings import Completeness
from appliance.streams.catalog import Streams


def what_it_waits_for(
    arrival: OpenArrival,
    streams: Streams,
    rules: Completeness,
    learned: Mapping[str, tuple[float, int]],
    now: datetime,
) -> str:
    """Say it in a sentence; `learned` maps calling AE titles as `arrivals.learned_quiet` does."""
    stream = streams.find(arrival.called_ae_title)
    own_quiet = stream.info.quiet_seconds if stream and stream.info else None
    quiet = quiet_of(arrival.calling_ae_titles, rules, own_quiet, learned)
    verdict = judge(arrival, rules, quiet, now)
    return "It is complete; its job is about to be made." if verdict.is_complete else verdict.reason
