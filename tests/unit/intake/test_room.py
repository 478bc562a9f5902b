"""Room for one more instance: looked at now and then, and never missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.amounts import DISK_GB
from appliance.disk.layout import Layout
from appliance.errors import NoSpace
from appliance.intake import room
from appliance.settings import Receiver
from tests.kit import volumes


def test_the_reserve_is_not_undercut_by_more_than_a_share_of_what_was_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with volumes.loop_ext4(tmp_path / "volume", tmp_path / "small", 40) as place:
        layout = Layout(place)
        layout.make()
        one = room.Room(layout, lambda: Receiver(reserve_gb=0.02, reserve_percent=0))
        one.check()
        monkeypatch.setattr(room, "_LOOK_SECONDS", 1e9)  # as if all came in a moment
        written = 0
        with pytest.raises(NoSpace):
            for number in range(100):
                one.check()
                (place / str(number)).write_bytes(bytes(500_000))
                one.take(500_000)
                written += 1
        assert written > 20, "what is above the reserve is used"
        # Of half the reserve, which open associations leave, no more than one of them is gone.
        assert volumes.free_bytes(place) > 0.01 * DISK_GB - 600_000


def test_inodes_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with volumes.loop_ext4(tmp_path / "volume", tmp_path / "small", 8) as place:
        layout = Layout(place)
        layout.make()
        one = room.Room(layout, lambda: Receiver(reserve_gb=0, reserve_percent=0))
        one.check()
        monkeypatch.setattr(room, "_LOOK_SECONDS", 1e9)
        with pytest.raises(NoSpace):
            for number in range(3000):
                one.check()
                (place / str(number)).touch()
                one.take(0)
        assert (place / "100").exists()
