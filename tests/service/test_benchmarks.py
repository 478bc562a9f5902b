"""The benchmarks run; what they measure is nobody's test."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from benchmarks import machine, send
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.instances import works
from benchmarks.interleaved import Contender, Timing, interleave, table
from benchmarks.plan import NotMeasured, Plan
from tests.kit import require


def test_the_runs_take_turns_and_the_first_round_is_not_counted() -> None:
    ran: list[str] = []
    contenders = [Contender(name, lambda name=name: ran.append(name)) for name in "AB"]
    timings = interleave(contenders, 2, lambda number: ran.append(str(number)))
    assert "".join(ran) == "0AB1AB2AB"
    assert {name: len(some) for name, some in timings.items()} == {"A": 2, "B": 2}


def test_a_ratio_is_of_one_round_and_over_1_where_brookbox_is_faster() -> None:
    ours = [Timing(1.0, 0.0), Timing(2.0, 0.0), Timing(4.0, 0.0)]
    theirs = [Timing(3.0, 1.0), Timing(2.0, 1.0), Timing(8.0, 1.0)]
    text = table({"Brookbox": ours, "peer": theirs}, 10, 1_000_000, on_disk=True)
    assert "2.00 (1.00-3.00)" in text
    assert "2.25 (1.50-4.00)" in text, "with the sync after"


def test_each_round_sends_other_instances_of_the_same_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BROOKBOX_REAL_DATA", raising=False)
    work = works(Plan(tmp_path, share=0.02))[1]
    seen: set[str] = set()
    for number in range(3):
        work.renew(number)
        sent = [pydicom.dcmread(one.path) for one in work.instances]
        seen |= {str(ds.SOPInstanceUID) for ds in sent}
        assert len({ds.StudyInstanceUID for ds in sent}) == 4
        assert all(ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID for ds in sent)
    assert len(seen) == 3 * len(work.instances)


def test_sending_is_compared_with_storescu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require.program("storescu", "dcmtk")
    require.program("storescp", "dcmtk")
    monkeypatch.delenv("BROOKBOX_REAL_DATA", raising=False)
    send.run(Plan(tmp_path, pairs=1, share=0.002))
    said = capsys.readouterr().out
    assert said.count("\nsend: ") == said.count("\nBrookbox  ") == said.count("\nstorescu  ") == 4


def test_the_head_names_the_machine_the_load_and_the_versions(tmp_path: Path) -> None:
    said = machine.describe(tmp_path)
    assert "cores" in said and "\nload " in said and "\ndisk " in said and "pynetdicom" in said


def test_what_is_missing_is_named_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(plan: Plan) -> None:
        raise NotMeasured("storescu is missing: apt-get install dcmtk")

    monkeypatch.setitem(BENCHMARKS, "send", fail)
    monkeypatch.setattr("sys.argv", ["benchmarks", "send"])
    monkeypatch.setattr("signal.signal", lambda *words: None)
    assert main() == 1
    assert "apt-get install dcmtk" in capsys.readouterr().err
