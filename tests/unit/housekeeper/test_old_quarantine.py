"""What nobody looks after in quarantine goes in time; what is held for a person waits for one."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.housekeeper.sweep import Sweeper
from appliance.index import events
from appliance.index.database import Database
from appliance.settings import Housekeeper
from tests.kit.quarantined import put_aside

RULES = Housekeeper(quarantine_days=30, high_percent=99)


def test_old_quarantine_goes_and_what_is_held_stays(db: Database, tmp_path: Path) -> None:
    layout, now = Layout(tmp_path / "data"), datetime.now(UTC)
    layout.make()
    old = {k: put_aside(layout, k, now - timedelta(days=31)) for k in quarantine.Kind}
    young = put_aside(layout, quarantine.Kind.REFUSED, now - timedelta(days=29))
    left, fresh = layout.quarantine / "left.json.part", layout.quarantine / "fresh.json.part"
    left.write_text("{")
    fresh.write_text("{")
    os.utime(left, (time.time() - 31 * 86400,) * 2)
    Sweeper(db, layout).sweep(RULES, now)
    stays = {old[quarantine.Kind.HELD], young}
    assert {one.id for one in quarantine.entries(layout)} == stays
    names = {path.name for path in layout.quarantine.iterdir()}
    assert names == {f"{id}{end}" for id in stays for end in (".dcm", ".json")} | {fresh.name}
    with db.read() as connection:
        [told] = events.latest(connection, 5)
    assert told.sentence == "Removed 4 files in quarantine: their time was over."
