"""`brookbox status --week`: the node's own numbers of the last seven days, in short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from appliance.amounts import of_disk
from appliance.cli import show
from appliance.cli.asked import Asked
from appliance.index import samples
from appliance.index.samples import COUNTS, NAMES, Sample

_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Summary:
    """One number of the week: the sum of what came and went, else the newest value."""

    name: str
    total: float | None
    last: float
    least: float
    most: float


def show_week(asked: Asked) -> int:
    """Print a line for each number."""
    since = datetime.now(UTC) - _WEEK
    db = asked.open_index()
    with db.read() as connection:
        found = {name: samples.series(connection, name, since) for name in NAMES}
    db.close()
    week = [_summary(name, values) for name, values in found.items() if values]
    if asked.as_json:
        show.as_json({"since": since, "numbers": week})
        return 0
    columns = ("number, every 5 minutes", "in all", "last", "least", "most")
    empty = "There are no numbers yet: the first are written five minutes after the start."
    show.table(columns, [_row(one) for one in week], empty)
    return 0


def _summary(name: str, values: Sequence[Sample]) -> Summary:
    numbers = [one.value for one in values]
    total = sum(numbers) if name in COUNTS else None
    return Summary(name, total, numbers[-1], min(numbers), max(numbers))


def _row(one: Summary) -> tuple[object, ...]:
    say = _said(one.name)
    total = "" if one.total is None else say(one.total)
    return one.name.replace("_", " "), total, say(one.last), say(one.least), say(one.most)


def _said(name: str) -> Callable[[float], str]:
    if name.startswith("bytes") or name.endswith("bytes"):
        return of_disk
    if name.endswith("seconds"):
        return lambda seconds: f"{seconds:.1f} s"
    return lambda number: f"{number:.0f}"
