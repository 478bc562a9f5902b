"""Show 4 at its full length: what the node leans on is away for minutes, and comes back.

The same in seconds stands with FT-16, FT-21 and FT-27.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.worker.container import Docker
from tests.faults.checker import Acknowledged
from tests.faults.flow import Flow, Town
from tests.kit import dicom, engine
from tests.kit.gearmand import Gearmand
from tests.kit.scripts import QUICK
from tests.kit.waiting import wait_for

MINUTE = 60.0
WITHOUT_GEARMAND = 10 * MINUTE
WITHOUT_DOCKERD = 5 * MINUTE
LOCKED = 30.0
PAUSE = 2.0


class Steady(Flow):
    """A modality that sends a study every two seconds, and again what was not acknowledged."""

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            self.studies += 1
            study = dicom.ct_study(self.slices, size=64)
            left = dicom.write_study(study, self.folder / f"{self.called}-{self.studies}")
            while left:
                got = set(self.node.send(left, self.called, self.calling).acknowledged)
                self.acknowledged += [Acknowledged(one, self.called) for one in left if one in got]
                self.refused += len(left) - len(got)
                left = [one for one in left if one not in got]


def at(begun: float, seconds: float) -> None:
    """Sleep until so long after the beginning: how long it lasts is what is tested here."""
    time.sleep(max(begun + seconds - time.monotonic(), 0))


def received(flows: list[Flow]) -> int:
    return sum(len(one.acknowledged) for one in flows)


def locked(town: Town, seconds: float) -> None:
    """Hold SQLite's lock for writing, as another program may."""
    with town.node.db.write():
        time.sleep(seconds)


@pytest.mark.long
@pytest.mark.timeout(30 * MINUTE)
def test_show_4_gearmand_dockerd_and_the_index_are_away_for_long_and_all_catches_up(
    shipped_images: Docker, tmp_path: Path
) -> None:
    gearmand = Gearmand()
    with engine.private() as private:
        engine.copy(private.docker, engine.GROUND)
        town = Town(tmp_path, docker="auto", docker_url=private.url)
        town.node.settings["queue"] = {
            "start_gearmand": False, "servers": [gearmand.server], "ring_again_seconds": 30,
        }  # fmt: skip
        town.node.settings["housekeeper"] = {"beat_seconds": 60}
        try:
            town.start()
            town.node.add_stream(
                "BOXED", "", image=engine.GROUND, command=["python3", "-c", QUICK], trusted=False,
                quiet_seconds=0.5,
            )  # fmt: skip
            town.node.wait_for_stream("BOXED")
            flows = [
                Steady(town.node, tmp_path / f"steady-{called}", called).start()
                for called in ("QUICK", "BOXED")
            ]
            wait_for(lambda: all(one.studies > 2 for one in flows), "studies flow", 60)
            _bear(town, flows, gearmand, private.kill, private.start)
            for one in flows:
                one.stop()
            behind = len([job for job in town.node.jobs() if job.state in ("queued", "running")])
            print(f"\nbehind when all is back: {behind} jobs of {len(town.node.jobs())}")
            assert town.settle(*flows, seconds=15 * MINUTE) == []
            assert town.results_for_every_study()
            assert town.node.cli_json("events", "--kind", "restarted") == [], "who was to blame?"
            refused = sum(one.refused for one in flows)
            print(f"{received(flows)} instances, {refused} refused and sent again, "
                  f"{len(town.node.jobs())} jobs")  # fmt: skip
        finally:
            town.stop()
            gearmand.kill()


def _bear(
    town: Town,
    flows: list[Flow],
    gearmand: Gearmand,
    kill_dockerd: Callable[[], None],
    start_dockerd: Callable[[], None],
) -> None:
    """Take everything away, one within the other, and give it back; count what goes on."""
    begun, before = time.monotonic(), received(flows)
    gearmand.kill()
    at(begun, MINUTE)
    assert received(flows) > before, "nothing was received without gearmand"
    kill_dockerd()
    at(begun, MINUTE + WITHOUT_DOCKERD)
    print(f"\nreceived in {MINUTE + WITHOUT_DOCKERD:.0f} s without gearmand, most of them without "
          f"dockerd: {received(flows) - before}")  # fmt: skip
    start_dockerd()
    before = received(flows)
    at(begun, WITHOUT_GEARMAND - 2 * MINUTE)
    assert received(flows) > before, "nothing was received with dockerd back"
    holder = threading.Thread(target=locked, args=(town, LOCKED))
    before = received(flows)
    holder.start()
    holder.join()
    print(f"received while the index was locked for {LOCKED:.0f} s: {received(flows) - before}")
    wait_for(lambda: received(flows) > before + 10, "reception goes on", MINUTE)
    at(begun, WITHOUT_GEARMAND)
    gearmand.start()
