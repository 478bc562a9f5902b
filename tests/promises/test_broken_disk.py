"""FT-24: a disk that takes no more writes is told of, and nobody is told that it had kept them."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from appliance.disk import space
from tests.faults import checker
from tests.faults.checker import Acknowledged
from tests.kit import peers
from tests.kit.dicom import ct_study, write_study
from tests.kit.indexes import migrated
from tests.kit.logged_disk import PowerCuts, logged_disk, mounted
from tests.kit.waiting import wait_for
from tests.promises.test_power_cut import receiving
from tests.service.receiver.peer import associate, rejection


def test_ft_24_a_disk_that_breaks_down_is_answered_with_a700_and_not_trusted_again(
    tmp_path: Path,
) -> None:
    before = write_study(ct_study(4), tmp_path / "before")
    after = write_study(ct_study(3), tmp_path / "after-that")
    with logged_disk(tmp_path / "power", 100) as disk:
        with receiving(tmp_path, disk) as receiver:
            report = peers.storescu(before, receiver.port, "ECHO")
            assert len(report.acknowledged) == 4
            wait_for(lambda: len(receiver.instances()) == 4, "the rows are there")
            settings = receiver.loaded
            assoc = associate(receiver)
            assert assoc.is_established
            disk.break_down()
            answers = [assoc.send_c_store(file).Status for file in after]
            assert answers == [0xA700] * 3
            wait_for(lambda: space.degraded(receiver.layout), "the volume is not trusted")
            wait_for(lambda: rejection(receiver, "ECHO") == (2, 3, 1), "nobody is let in")
            assoc.abort(block=False)
        power = PowerCuts(disk, tmp_path / "flushed.img", random.Random(1))
        [last] = [len(disk.records())]
        power.cut(last, tmp_path / "cut.img")
        place = tmp_path / "after"
        there = replace(settings, node=replace(settings.node, data_root=str(place / "data")))
        with mounted(tmp_path / "cut.img", place):
            db = migrated(there)
            told = [Acknowledged(file, "ECHO") for file in before]
            evidence = checker.Evidence(there.data_root, db, told, oldest_temp=timedelta(0))
            assert list(checker.acknowledged_is_kept(evidence)) == []
            db.close()
