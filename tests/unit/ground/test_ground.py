"""The ground: errors, ids, bells and logs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from appliance import bells, errors, ids, logs, settings_file

CHECKOUT = Path(__file__).resolve().parents[3]


def every_error() -> list[type[errors.BrookboxError]]:
    def below(kind: type[errors.BrookboxError]) -> list[type[errors.BrookboxError]]:
        return [kind, *(one for child in kind.__subclasses__() for one in below(child))]

    return below(errors.BrookboxError)


def test_the_tree_drawn_at_the_top_is_the_tree_of_errors() -> None:
    drawn = {word for word in (errors.__doc__ or "").replace("─", " ").split() if word[0].isupper()}
    missing = {kind.__name__ for kind in every_error() if kind.__module__ == errors.__name__}
    assert missing <= drawn


OF_THE_TREE = [kind for kind in every_error() if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", OF_THE_TREE)
def test_every_error_carries_a_remedy(kind: type[errors.BrookboxError]) -> None:
    assert errors.explain(kind("It broke", remedy="mend it")) == "It broke\ntry: mend it"


def test_a_process_is_known_by_pid_and_start() -> None:
    me = ids.this_process()
    assert ids.parse_process(str(me)).is_alive()
    assert not replace(me, started=me.started - 100).is_alive()
    assert replace(me, host="another", pid=1).is_alive()


def test_ft_29_a_process_is_alive_still_after_the_clock_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = ids.parse_process(str(ids.this_process()))
    # What a clock that is set one hour on does to the time of the boot (btime in /proc/stat).
    boot = psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot + 3600.0)
    assert name.is_alive()


def test_a_process_of_the_boot_before_is_not_alive() -> None:
    assert not replace(ids.this_process(), boot="00000000").is_alive()


def test_a_child_that_ended_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = ids.name_of(child.pid)
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


def test_one_that_ends_leaves_the_bell_of_the_one_after_it(tmp_path: Path) -> None:
    before = bells.Bell(tmp_path, "dispatcher")
    after = bells.Bell(tmp_path, "dispatcher")
    before.close()
    bells.ring(tmp_path, "dispatcher")
    assert after.wait(5) is True
    after.close()
    assert list(tmp_path.iterdir()) == []


# Every line of a signal handler, and of what it calls, is interrupted by a signal.
STORM = """
import signal, sys
from appliance.lifecycle import Lifecycle
life = Lifecycle()
left = [200]
def again(frame, event, arg):
    if left[0] and frame.f_code.co_filename != "<string>":
        left[0] -= 1
        signal.raise_signal(signal.SIGTERM if left[0] % 2 else signal.SIGHUP)
    return again
sys.settrace(again)
signal.raise_signal(signal.SIGTERM)
life.sleep(0.01)
life.wants_reload()
sys.settrace(None)
signal.raise_signal(signal.SIGHUP)
print(life.sleep(60), life.sleep(60), life.wants_reload(), life.wants_reload())
"""


def test_a_signal_within_the_handler_of_another_locks_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STORM], cwd=CHECKOUT, capture_output=True, timeout=20, text=True
    )
    assert done.stdout.split() == ["True", "True", "True", "False"], done.stderr


def test_a_sleep_ends_when_a_process_is_asked_to_stop() -> None:
    code = (
        "from appliance.lifecycle import Lifecycle\n"
        "life = Lifecycle()\nprint('ready', flush=True)\nlife.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    child.terminate()
    assert child.wait(10) == 0
    child.stdout.close()


def test_a_child_whose_parent_died_before_it_could_ask_is_told_at_once() -> None:
    code = "import os; from appliance import lifecycle; lifecycle.die_with_parent(parent=%d)"
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = subprocess.run([sys.executable, "-c", code % gone.pid], cwd=CHECKOUT, timeout=20)
    assert done.returncode == -signal.SIGTERM


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


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, from the checkout."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, timeout=20, text=True
    )


def test_lines_written_behind_come_in_their_order_and_all_of_them() -> None:
    code = (
        "import os; from appliance import logs; logs.set_up('receiver')\n"
        "behind = logs.write_behind()\n"
        "for n in range(3000): logs.get().info('kept', number=n)\n"
        "logs.get().warning('trouble', number=3000)\n"
        "os.write(1, b'after the trouble\\n')\n"
        "logs.get().info('kept', number=3001)\n"
        "behind.flush(); os._exit(0)\n"
    )
    done = run(code)
    lines = done.stdout.splitlines()
    assert lines.pop(3001) == "after the trouble", "a warning is there at once"
    assert [json.loads(line)["number"] for line in lines] == list(range(3002))


def test_what_pydicom_complains_of_is_not_quoted() -> None:
    code = (
        "from appliance import logs; logs.set_up('router')\n"
        "from pydicom import DataElement, config\n"
        "config.settings.writing_validation_mode = config.WARN\n"
        "DataElement(0x0020000D, 'UI', 'Seeded^Name')\n"
    )
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_log_level_changes_while_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("receiver")
    settings = settings_file.load(None, tmp_path, {})
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "brookbox.yaml").write_text("node: {log_level: debug}")
    settings_file.reloaded(settings)
    logs.get().debug("instance kept")
    assert "instance kept" in capsys.readouterr().out
    logs.set_up("receiver")
