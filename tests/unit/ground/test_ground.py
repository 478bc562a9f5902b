"""The ground: errors, ids, bells and logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import bells, errors, ids, logs


def every_error() -> list[type[errors.BrookboxError]]:
    def below(kind: type[errors.BrookboxError]) -> list[type[errors.BrookboxError]]:
        return [kind, *(one for child in kind.__subclasses__() for one in below(child))]

    return below(errors.BrookboxError)


def test_the_tree_drawn_at_the_top_is_the_tree_of_errors() -> None:
    drawn = {word for word in (errors.__doc__ or "").replace("─", " ").split() if word[0].isupper()}
    missing = {kind.__name__ for kind in every_error() if kind.__module__ == errors.__name__}
    assert missing <= drawn


@pytest.mark.parametrize("kind", every_error())
def test_every_error_carries_a_remedy(kind: type[errors.BrookboxError]) -> None:
    assert errors.explain(kind("It broke", remedy="mend it")) == "It broke\ntry: mend it"


def test_a_process_is_known_by_pid_and_start() -> None:
    me = ids.this_process()
    assert ids.parse_process(str(me)).is_alive()
    assert not replace(me, started=me.started - 100).is_alive()
    assert replace(me, host="another", pid=1).is_alive()


def test_a_child_that_ended_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    import psutil

    name = replace(
        ids.this_process(), pid=child.pid, started=psutil.Process(child.pid).create_time()
    )
    assert name.is_alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not name.is_alive()
    child.communicate()


def test_a_bell_wakes_its_owner_even_below_a_very_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    bell = bells.Bell(folder, "dispatcher")
    assert bell.wait(0.01) is False
    bells.ring(folder, "dispatcher")
    bells.ring(folder, "dispatcher")
    assert bell.wait(5) is True
    assert bell.wait(0.01) is False
    bell.close()


def test_ringing_where_nobody_listens_does_no_harm(tmp_path: Path) -> None:
    bells.ring(tmp_path / "none", "dispatcher")
    bell = bells.Bell(tmp_path, "dispatcher")
    for _ in range(10_000):
        bells.ring(tmp_path, "dispatcher")
    bell.close()


def test_a_log_line_is_json_with_bound_ids_and_never_a_patient(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up("receiver")
    with logs.bound(job=12, study="1.2"):
        logs.get().info("job started", instances=3, patient_name="Seeded^Name")
    line = json.loads(capsys.readouterr().out)
    assert (line["job"], line["study"], line["instances"]) == (12, "1.2", 3)
    assert line["process"] == "receiver"
    assert "Seeded" not in json.dumps(line)
