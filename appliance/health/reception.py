"""How reception keeps its promise: when an image is on the disk, and how far rows are behind."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.amounts import count
from appliance.disk import behind
from appliance.disk.layout import Layout
from appliance.health.finding import Finding, ok, warn, wrong
from appliance.settings import Settings

_LATE_SECONDS = 5.0


def check_reception(settings: Settings) -> Iterator[Finding]:
    """Look at what the receiving processes say of themselves."""
    said = behind.read(Layout(settings.data_root))
    if settings.receiver.durability == "none":
        yield warn(
            "durability",
            "Images are answered before they are on the disk: a power cut loses the last seconds "
            "of what was acknowledged, or leaves them empty.",
            "set receiver.durability to committed",
        )
    else:
        ways = sorted({one.durability for one in said if one.durability})
        way = "; ".join(ways) or "how they are synced is chosen while they come in"
        yield ok("durability", f"Images are on the disk before they are answered: {way}.")
    rows = sum(one.rows for one in said)
    late = max((one.seconds for one in said), default=0.0)
    if late > _LATE_SECONDS:
        sentence = (
            f"{count(rows, 'image')} that came in and {'is' if rows == 1 else 'are'} kept wait for "
            f"the index, the oldest for {late:.0f} s; after 30 s no more are taken."
        )
        yield wrong("rows", sentence, "look at the index above, and at logs/receiver.log")
