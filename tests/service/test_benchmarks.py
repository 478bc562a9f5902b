"""The benchmarks run, and refuse to count what is no measurement; a timing is nobody's test."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from benchmarks import (
    command,
    corpus,
    gigabit,
    held,
    machine,
    peers,
    report,
    rounds,
    rows,
    send,
    wire,
)
from benchmarks.__main__ import BENCHMARKS, CASES, main
from benchmarks.blast import blast
from benchmarks.corpus import Corpus
from benchmarks.elements import file_meta
from benchmarks.peers import NODELAY, Receiver
from benchmarks.plan import NotMeasured, Plan
from benchmarks.receiving import Contender, take
from benchmarks.rounds import Figure, Side, Turn
from benchmarks.rows import Row
from tests.kit import require

ROW = Row("ct-1", "dcmtk", "images/s", 200, 100, [1.5, 2.0, 4.0], 1.25, 70, 16,
          "storescp -od OUT PORT", "blast", "brookbox up", {"rows_behind_ms": 3})  # fmt: skip
ASKED = {"case", "peer", "ours", "theirs", "ratio", "cpu_ratio", "rss_mb"}


def side(name: str, ran: list[str], *values: float, seconds: float = 1) -> Side:
    left = list(values)

    def run(is_first: bool) -> Turn:
        ran.append(f"({name})" if is_first else name)
        value = 0.0 if is_first else left.pop(0)
        return Turn(Figure(value), cpu_seconds=value, peak_mb=value, seconds=seconds)

    return Side(name, "a command", "a sender", run)


def test_the_runs_take_turns_and_the_first_round_is_not_counted(tmp_path: Path) -> None:
    ran: list[str] = []
    sides = [side("A", ran, 1, 1), side("B", ran, 1, 1)]
    turns = rounds.interleave("ct-1", sides, Plan(tmp_path, tmp_path, pairs=2))
    assert "".join(ran) == "(A)(B)ABAB"
    assert {name: list(some) for name, some in turns.items()} == {"A": [0, 1], "B": [0, 1]}


def test_one_that_is_slow_runs_in_each_third_round_only(tmp_path: Path) -> None:
    ran: list[str] = []
    sides = [side("A", ran, 1, 1, 1, 1), side("S", ran, 1, 1, 1, seconds=9)]
    rounds.interleave("ct-1", sides, Plan(tmp_path, tmp_path, pairs=4))
    assert "".join(ran) == "(A)(S)ASASAAS"


def test_a_case_ends_with_its_time_but_not_before_two_rounds(tmp_path: Path) -> None:
    ran: list[str] = []
    sides = [side("A", ran, 1, 1, 1), side("B", ran, 1, 1, 1)]
    rounds.interleave("ct-1", sides, Plan(tmp_path, tmp_path, seconds=0, pairs=9))
    assert ran.count("A") == ran.count("B") == 2


@pytest.mark.parametrize(("less_is_better", "ratios"), [(False, [2, 3]), (True, [0.5, 1 / 3])])
def test_a_ratio_is_of_one_round_and_over_1_where_ours_is_better(
    tmp_path: Path, less_is_better: bool, ratios: list[float]
) -> None:
    sides = [side("A", [], 2, 9), side("B", [], 1, 3)]
    turns = rounds.interleave("ct-1", sides, Plan(tmp_path, tmp_path, pairs=2))
    [row] = rounds.compare("ct-1", "images/s", sides, turns, less_is_better=less_is_better)
    assert row.ratios == pytest.approx(ratios)
    assert (row.ours, row.theirs, row.rss_mb, row.peer_rss_mb) == (5.5, 2, 9, 3)
    assert row.cpu_ratio == pytest.approx(4 / 11), "theirs to ours"


def test_the_json_has_what_was_asked_for_and_says_how_it_came() -> None:
    made = json.loads(rows.as_json([ROW], machine=["a machine"]))
    [row] = made["rows"]
    assert set(row) >= ASKED | {"spread", "rounds", "command", "unit", "sender", "peer_rss_mb"}
    assert (row["ratio"], row["spread"], row["rounds"]) == (2.0, [1.5, 4.0], 3)
    assert (row["rows_behind_ms"], made["machine"]) == (3, ["a machine"])


def test_the_table_is_written_between_its_marks_and_nothing_else_is_touched(
    tmp_path: Path,
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nan older one\n{report.END}\nafter\n")
    for _ in range(2):
        report.write(readme, "a machine", [ROW], "what the road said")
    said = readme.read_text()
    assert said.startswith(f"before\n{report.BEGIN}\n") and said.endswith(f"{report.END}\nafter\n")
    assert "| ct-1 | dcmtk | images/s | 200 | 100 | 2.00 | 1.50-4.00 | 3 | 1.25 | 70 : 16 |" in said
    assert "`storescp -od OUT PORT`; sender: blast; rows behind ms 3" in said
    assert "a machine" in said and "what the road said" in said and "an older one" not in said


def test_a_readme_without_marks_is_left_as_it_is(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing")
    with pytest.raises(NotMeasured, match="lacks the marks"):
        report.write(readme, "", [ROW], "")
    assert readme.read_text() == "nothing"


def test_the_readme_of_the_benchmarks_has_the_marks_and_names_every_case() -> None:
    text = Path(report.__file__).with_name("README.md").read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1
    assert not [case for case in CASES if f"`{case}`" not in text]


def test_the_options_make_the_plan(tmp_path: Path) -> None:
    parser = command.parser("benchmarks", ("ct-1", "mr-1"))
    plain = command.plan_for(parser.parse_args([]), tmp_path, tmp_path)
    quick = command.plan_for(parser.parse_args(["--quick"]), tmp_path, tmp_path)
    case = command.plan_for(
        parser.parse_args(["--case", "ct-1", "--case", "mr-1"]), tmp_path, tmp_path
    )
    assert plain.wants("mr-4") and plain.share == 1
    assert quick.seconds < case.seconds < 60 < plain.seconds and quick.share < 1
    assert case.wants("ct-1") and case.wants("mr-1") and not case.wants("ct-4")
    with pytest.raises(SystemExit):
        parser.parse_args(["--case", "ct-2"])


@pytest.mark.parametrize(
    "made", [corpus.ct(8), corpus.mr(8), corpus.multi_frame([1, 2])], ids=["ct", "mr", "mf"]
)
def test_each_run_sends_other_instances_with_the_digests_that_are_told(made: Corpus) -> None:
    seen: set[str] = set()
    for _ in range(3):
        sent = made.renew()
        for image in made.images:
            assert sent[image.sop_instance_uid] == hashlib.sha256(image.data_set).hexdigest()
            meta = file_meta(image.sop_class_uid, image.sop_instance_uid)
            ds = pydicom.dcmread(BytesIO(meta + image.data_set))
            assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
            assert ds.SOPInstanceUID == image.sop_instance_uid
            assert ds.StudyInstanceUID in ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID
        seen |= set(sent)
    assert len(seen) == 3 * len(made.images)


def test_associations_share_all_of_it_among_them() -> None:
    made = corpus.mr(10)
    for count in (1, 3, 4, 64):
        parts = made.parts(count)
        assert [image for part in parts for image in part] == made.images
        assert len(parts) == min(count, 10)


@pytest.mark.parametrize("name", ["dcmtk", "dcmtk-fork-raw", "dcmtk-su"])
def test_a_run_into_storescp_is_checked_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    require.program("storescp", "dcmtk")
    with peers.receiver(name, tmp_path / name, "none") as receiver:
        turn = take(Contender(name, receiver, by_blast, "blast"), corpus.mr(8))
        assert turn.figure.value == 8 and turn.peak_mb > 1
        assert receiver.command.startswith("TCP_NODELAY=1 storescp -q")
        assert not [path for path in receiver.folder.rglob("*") if path.is_file()]


def by_blast(receiver: Receiver, made: Corpus, watch: object) -> Figure:
    return Figure(len(blast(receiver.address, made.parts(2)).answers))


def test_what_is_not_held_as_it_was_sent_does_not_count(tmp_path: Path) -> None:
    made = corpus.mr(3)
    sent = made.renew()
    paths = made.write(tmp_path)
    held.check(tmp_path, sent, "storescp")
    content = bytearray(paths[1].read_bytes())
    content[-1] ^= 1
    paths[1].write_bytes(content)
    (tmp_path / "no DICOM").write_text("nothing")
    with pytest.raises(NotMeasured, match="storescp does not hold 1 of 3 instances"):
        held.check(tmp_path, sent, "storescp")


def test_a_receiver_that_refuses_does_not_count(tmp_path: Path) -> None:
    require.program("storescp", "dcmtk")
    refusing = [machine.need("storescp", "dcmtk"), "--refuse"]
    with (
        peers.listening("dcmtk", refusing, tmp_path / "out", NODELAY) as receiver,
        pytest.raises(NotMeasured, match="no association: PDU 3"),
    ):
        take(Contender("dcmtk", receiver, by_blast, "blast"), corpus.mr(2))


def test_sending_is_compared_with_storescu_and_with_pynetdicom(tmp_path: Path) -> None:
    require.program("storescu", "dcmtk")
    require.program("storescp", "dcmtk")
    plan = Plan(tmp_path, tmp_path, seconds=0, pairs=1, share=0.02, cases=("send-ct",))
    made = send.run(plan)
    assert [(row.case, row.peer) for row in made] == [
        ("send-ct", "storescu"),
        ("send-ct", "pynetdicom"),
    ]
    assert all(row.ours > 0 and row.theirs > 0 and row.rss_mb > 10 for row in made)


def test_the_wire_is_never_faster_than_it_says_and_leaves_nothing() -> None:
    require.root()
    require.program("ip", "iproute2")
    if not Path("/dev/net/tun").exists():
        require.missing("/dev/net/tun", "load the kernel module tun")
    with gigabit.wire() as one:
        facts = wire.quality(one)
        assert one.namespace.exists()
    assert facts["wire_round_trip_ms"] >= 2 and 1 < facts["wire_mb_per_s"] < 118
    assert not one.namespace.exists() and not Path(f"/proc/{one.carrier}").exists()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_case_runs_against_a_whole_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require.program("storescp", "dcmtk")
    words = ["--case", "ct-1", "--peer", "dcmtk", "--seconds", "1", "--quick", "--json"]
    monkeypatch.setattr("signal.signal", lambda *words: None)
    monkeypatch.setattr(
        "sys.argv", ["benchmarks", *words, "--folder", str(tmp_path), "--tmpfs", str(tmp_path)]
    )
    assert main() == 0
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert (row["case"], row["peer"], row["rounds"]) == ("ct-1", "dcmtk", 2)


def test_the_head_names_the_machine_the_load_and_the_versions(tmp_path: Path) -> None:
    said = machine.describe(tmp_path)
    assert "cores" in said and "\nload " in said and "\ndisk " in said and "pynetdicom" in said


def test_what_is_missing_is_named_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(plan: Plan) -> None:
        raise NotMeasured("storescu is missing: apt-get install dcmtk")

    monkeypatch.setitem(BENCHMARKS, "send", fail)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--case", "send-ct"])
    monkeypatch.setattr("signal.signal", lambda *words: None)
    assert main() == 1
    assert "apt-get install dcmtk" in capsys.readouterr().err


def test_what_has_no_rows_is_shown_as_it_says_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BENCHMARKS, "road", lambda plan: print("a road"))
    monkeypatch.setattr("sys.argv", ["benchmarks", "road"])
    monkeypatch.setattr("signal.signal", lambda *words: None)
    assert main() == 0
    assert "a road" in capsys.readouterr().out


def test_a_plan_has_one_instance_at_least(tmp_path: Path) -> None:
    assert replace(Plan(tmp_path, tmp_path), share=0.001).count(500) == 1
