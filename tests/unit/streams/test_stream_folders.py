"""Stream folders: each is read for itself, and a wrong one says what is wrong and where."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.disk.layout import Layout
from appliance.settings import Node, Settings
from appliance.streams import catalog, info, served, shipped
from appliance.streams.catalog import (
    Stream,
    StreamWatcher,
    read_stream,
    read_streams,
    streams_of,
)
from appliance.streams.limits import limits_of
from tests.kit.node import CHECKOUT
from tests.kit.waiting import wait_for

GOOD: dict[str, object] = {"AETitle": "ONE", "image": "a/b:1", "command": ["run"]}


def folder(tmp_path: Path, name: str, values: dict[str, object] | str, *files: str) -> Path:
    path = tmp_path / name
    path.mkdir()
    text = values if isinstance(values, str) else json.dumps(values, indent=1)
    (path / "info.json").write_text(text, encoding="utf-8")
    for file in files:
        (path / file).write_text("")
    return path


def said(stream: Stream) -> list[str]:
    return [str(problem) for problem in stream.problems]


def test_an_image_is_built_where_it_can_be_and_else_pulled(tmp_path: Path) -> None:
    without, with_one = folder(tmp_path, "a", GOOD), folder(tmp_path, "b", GOOD, "Dockerfile")
    assert read_stream(without).get_image == "brookbox streams pull ONE"
    assert read_stream(with_one).get_image == "brookbox streams build ONE"


def test_a_good_folder_has_no_problem(tmp_path: Path) -> None:
    stream = read_stream(folder(tmp_path, "a", GOOD))
    assert (stream.ae_title, stream.contract, said(stream)) == ("ONE", "brookbox", [])
    assert stream.is_good
    assert stream.is_enabled


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{\n 'a': 1}", "info.json:2: This is not JSON"),
        ("[]", "must hold one JSON object"),
        ('{"AETitle": "A\\\\B", "image": "x", "command": ["r"]}', "printable ASCII"),
        ('{"AETitle": "SEVENTEEN_LETTERS", "command": ["r"], "trusted": true}', "1 to 16"),
        ('{"image": "x", "command": ["r"]}', "AETitle is missing"),
        ('{"AETitle": "A",\n"memry_gb": 2, "image": "x", "command": ["r"]}',
         "info.json:2: memry_gb is not a key of info.json. Did you mean memory_gb?"),
        ('{"AETitle": "A",\n"AETitle": "B", "image": "x", "command": ["r"]}',
         "info.json:2: AETitle stands here a second time."),
        ('{"AETitle": "A", "image": "x; rm -rf /", "command": ["r"]}', "name of a Docker image"),
        ('{"AETitle": "A", "image": "x", "command": ["r"],\n"lanes": 0}', "info.json:2: lanes"),
        ('{"AETitle": "A", "image": "x", "command": ["r"], "privileged": true}', "not a key"),
        ('{"AETitle": "A", "image": "x", "command": ["r"], "network": "host"}', "network"),
        ('{"AETitle": "A", "image": "x", "command": ["r"], "models": "../x"}', "inside"),
        ('{"AETitle": "A", "image": "x", "command": ["r"], "env": {"BROOKBOX_JOB": "x"}}', "env"),
        ('{"AETitle": "A", "command": ["r"]}', "image is missing"),
        ('{"AETitle": "A", "image": "x", "command": ["r"],\n"memory_gb": 1e400}',
         "info.json:2: memory_gb: must be a finite number."),
        ('{"AETitle": "A", "image": "x", "command": ["r"], "log_mb": "inf"}', "finite number"),
        ('{"AETitle": "A", "image": "x", "command": ["r"], "memory_gb": 1e300}',
         "memory_gb: must be at most 1000000000."),
        ('{"AETitle": "A", "image": "x", "command": ["r"],\n"settings": {"s": [NaN]}}',
         "info.json:2: s: must be a finite number."),
        ('{"AETitle": "A", "image": "x", "command": ["r"], "lanes": 1' + "0" * 5000 + "}",
         "a number that is too long"),
        ('{"AETitle": "A", "image": "x", "command": "run.py"}',
         'command: must be a list of texts, such as ["python3", "run.py"].'),
        ("[" * 100_000, "not JSON"),
    ],
)  # fmt: skip
def test_a_wrong_info_says_what_and_where(tmp_path: Path, text: str, wanted: str) -> None:
    stream = read_stream(folder(tmp_path, "a", text))
    assert not stream.is_good
    assert any(wanted in line or "nested" in line for line in said(stream)), said(stream)


@pytest.mark.parametrize(
    "key", [f.alias or name for name, f in info.StreamInfo.model_fields.items()]
)
def test_what_is_wrong_with_a_value_is_said_in_plain_words(tmp_path: Path, key: str) -> None:
    wrong = (None, True, 0, 1.5, -1, 10**12, 1e400, "?", "x" * 6000, [1], {"a": 1}, {"a": [1]})
    for number, value in enumerate(wrong):
        stream = read_stream(folder(tmp_path, str(number), {**GOOD, key: value}))
        for sentence in said(stream):
            assert not re.search(r"[Ii]nput|valid|String", sentence), sentence


def test_a_stream_cannot_have_the_ae_title_of_the_node(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, node=Node(ae_title=" ONE "))
    settings.streams_folder.mkdir()
    folder(settings.streams_folder, "a", GOOD)
    folder(settings.streams_folder, "b", {**GOOD, "AETitle": "one"})
    watcher = StreamWatcher.of(settings)
    wait_for(lambda: len(watcher.current().all) == 2, "both are seen")
    for streams in (streams_of(settings), watcher.current()):
        assert [stream.ae_title for stream in streams.serving()] == ["one"]
        [stops] = [p for p in streams.all[0].problems if p.stops]
        assert "ONE is the AE title of the node itself (node.ae_title)" in str(stops)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_named(tmp_path: Path, encoding: str) -> None:
    path = folder(tmp_path, "a", GOOD)
    (path / "info.json").write_text(json.dumps(GOOD), encoding=encoding)
    assert said(read_stream(path)) == [
        "info.json:1: It begins with a byte order mark: save it as UTF-8 without one."
    ]


def test_an_info_of_five_megabytes_is_refused(tmp_path: Path) -> None:
    stream = read_stream(folder(tmp_path, "a", {**GOOD, "description": "x" * 5_000_000}))
    assert "1 MB is the most" in said(stream)[0]


def test_enabled_is_the_number_that_magickbox_wrote(tmp_path: Path) -> None:
    assert not read_stream(folder(tmp_path, "a", {**GOOD, "enabled": 0})).is_enabled
    assert read_stream(folder(tmp_path, "b", {**GOOD, "enabled": 1})).is_enabled


def test_magickbox_folders_are_recognised_and_keep_their_own_keys(tmp_path: Path) -> None:
    host = {"AETitle": "HOST", "enabled": 1, "type": "Processing", "queue": "q"}
    stream = read_stream(folder(tmp_path, "host", host, "work.sh"))
    assert (stream.contract, stream.is_good) == ("magickbox-host", True)
    assert len(stream.problems) == 2
    bucket = read_stream(folder(tmp_path, "bucket", {"AETitle": "B", "image": "bucket:1"}))
    assert (bucket.contract, bucket.is_good) == ("magickbox", True)


def test_of_two_folders_with_one_ae_title_none_serves_at_start(tmp_path: Path) -> None:
    folder(tmp_path, "a", GOOD)
    folder(tmp_path, "b", GOOD)
    streams = read_streams(tmp_path)
    assert streams.serving() == []
    assert said(streams.all[0]) == ["info.json:2: AETitle ONE is also that of b."]


def test_a_broken_folder_takes_its_ae_title_from_no_good_one(tmp_path: Path) -> None:
    folder(tmp_path, "a", GOOD)
    folder(tmp_path, "b", '{"AETitle": "ONE",\n // half of it')
    streams = read_streams(tmp_path)
    assert [stream.folder.name for stream in streams.serving()] == ["a"]
    assert said(streams.all[0]) == ["info.json:2: AETitle ONE is also that of b."]
    assert "info.json:1: AETitle ONE is also that of a." in said(streams.all[1])
    assert streams.find("ONE") is streams.all[0]


def test_the_one_that_was_serving_goes_on_when_a_double_is_dropped_in(tmp_path: Path) -> None:
    folder(tmp_path, "b", GOOD)
    before = read_streams(tmp_path).serving()
    folder(tmp_path, "a", GOOD)
    serving = read_streams(tmp_path, [stream.folder.name for stream in before]).serving()
    assert [stream.folder.name for stream in serving] == ["b"]


def test_who_starts_later_and_the_command_line_judge_a_double_alike(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    settings.streams_folder.mkdir()
    Layout(settings.data_root).make()
    folder(settings.streams_folder, "b", GOOD)
    running = StreamWatcher(settings.streams_folder, settings.data_root)
    served.note(settings.data_root, (one.folder.name for one in running.current().serving()))
    folder(settings.streams_folder, "a", GOOD)
    started_later = StreamWatcher(settings.streams_folder, settings.data_root)
    for streams in (streams_of(settings), started_later.current()):
        assert [stream.folder.name for stream in streams.serving()] == ["b"]
    served.forget(settings.data_root)
    assert streams_of(settings).serving() == [], "at the start of the node none serves"


def test_ae_titles_that_differ_in_case_are_two_streams_with_a_warning(tmp_path: Path) -> None:
    folder(tmp_path, "a", GOOD)
    folder(tmp_path, "b", {**GOOD, "AETitle": "One"})
    streams = read_streams(tmp_path)
    assert len(streams.serving()) == 2
    assert all("only in case" in said(stream)[0] for stream in streams.all)
    assert streams.meant("oNE") in ("ONE", "One")
    assert streams.find("oNE") is None


def test_a_link_is_refused_and_hidden_folders_are_not_looked_at(tmp_path: Path) -> None:
    good = folder(tmp_path, "a", GOOD)
    (tmp_path / "z").symlink_to(good)
    (tmp_path / ".git").mkdir()
    (tmp_path / "base").mkdir()
    names = [(stream.folder.name, stream.is_good) for stream in read_streams(tmp_path).all]
    assert names == [("a", True), ("z", False)]


def test_a_folder_counts_only_once_it_has_settled(tmp_path: Path) -> None:
    watcher = StreamWatcher(tmp_path)
    assert watcher.current().all == ()
    path = folder(tmp_path, "a", GOOD)
    assert watcher.current().all == ()
    wait_for(lambda: watcher.current().find("ONE"), "the stream is there", 20)
    (path / "info.json").write_text(json.dumps({**GOOD, "AETitle": "TWO"}))
    assert watcher.current().find("TWO") is None
    wait_for(lambda: watcher.current().find("TWO"), "the edit is seen", 20)
    assert watcher.current().find("ONE") is None
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    wait_for(lambda: not watcher.current().all, "the removal is seen", 20)


def test_limits_are_those_of_info_else_of_the_settings() -> None:
    own = info.StreamInfo.model_validate({**GOOD, "memory_gb": 2})
    limits = limits_of(own, Settings())
    assert (limits.memory_gb, limits.memory_bytes, limits.pids) == (2, 2 * 1024**3, 1024)


def test_the_shipped_streams_are_good() -> None:
    streams = read_streams(shipped.shipped_folder())
    assert {stream.ae_title for stream in streams.serving()} >= {"ECHO", "MONTAGE"}
    assert all(said(stream) == [] for stream in streams.all)


def test_what_cannot_be_read_harms_no_other(tmp_path: Path) -> None:
    folder(tmp_path, "a", GOOD).chmod(0)
    folder(tmp_path, "b", {**GOOD, "AETitle": "TWO"})
    (folder(tmp_path, "c", {**GOOD, "AETitle": "THREE"}) / "info.json").chmod(0)
    folder(tmp_path, "d", {**GOOD, "AETitle": "FOUR"}).chmod(0o400)
    (tmp_path / "e" / "info.json").mkdir(parents=True)
    (tmp_path / "f").symlink_to(tmp_path / "f")
    (tmp_path / "g").symlink_to(tmp_path / "nothing")
    (tmp_path / os.fsdecode(b"h\xff")).mkdir()
    os.mkfifo(folder(tmp_path, "i", GOOD) / "pipe")
    look = (
        "import os, sys, pathlib\n"
        "from appliance.streams.catalog import StreamWatcher, read_streams\n"
        "if os.geteuid() == 0: os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "StreamWatcher(folder).current()\n"
        "for one in read_streams(folder).all: print(one.folder.name, *one.problems)\n"
    )
    with reached_by_nobody(tmp_path):
        command = [sys.executable, "-c", look, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "a info.json: The folder cannot be read: Permission denied.",
        "b",
        "c info.json: It cannot be read: Permission denied.",
        "d info.json: The folder cannot be read: Permission denied.",
        "e info.json: There is no info.json in this folder.",
        "f info.json: The folder is a link: copy it.",
        "g info.json: The folder is a link: copy it.",
        "h\ufffd info.json: The folder's name is not UTF-8: rename it.",
        "i",
    ]


@contextlib.contextmanager
def reached_by_nobody(folder: Path) -> Iterator[None]:
    """Let another user look into a folder of pytest's, whose parents are its own."""
    before = {one: one.stat().st_mode for one in (folder, *folder.parents)}
    for one, mode in before.items():
        if not mode & 0o001:
            one.chmod(mode | 0o055)
    yield
    for one, mode in before.items():
        if one.stat().st_mode != mode:
            one.chmod(mode)


def test_a_process_that_starts_takes_a_good_stream_that_was_edited_just_now(tmp_path: Path) -> None:
    folder(tmp_path, "a", GOOD)
    folder(tmp_path, "b", "{ half of it")
    assert [stream.ae_title for stream in StreamWatcher(tmp_path).current().all] == ["ONE"]


def test_what_changes_while_it_is_looked_at_has_not_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = StreamWatcher(tmp_path)
    assert watcher.current().all == ()
    path = folder(tmp_path, "a", GOOD)
    signature = catalog._signature

    def changed_meanwhile(one: Path) -> tuple[float, int]:
        time.sleep(0.02)  # the clock of change times is that coarse
        (path / "info.json").touch()
        return signature(one)

    monkeypatch.setattr(catalog, "_signature", changed_meanwhile)
    watcher._look()
    assert watcher.current().all == ()


def test_results_are_not_handed_on_yet_and_the_stream_says_so(tmp_path: Path) -> None:
    stream = read_stream(folder(tmp_path, "a", {**GOOD, "then": ["TWO"]}))
    assert stream.is_good and "then does nothing yet" in said(stream)[0]
