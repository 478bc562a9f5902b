"""A plain process is limited, ended and kept from the node's data as far as this user can."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest

from appliance.disk.layout import JobFolder
from appliance.settings import Settings
from appliance.settings import Worker as WorkerSettings
from appliance.worker.plain_process import ProcessExecutor
from tests.kit import require
from tests.kit.runs import Bystander, InBackground, Workshop, begin
from tests.kit.waiting import wait_for

Start = Callable[..., InBackground]


@pytest.fixture
def processes(workshop: Workshop) -> ProcessExecutor:
    return ProcessExecutor(workshop.settings)


@pytest.fixture
def started(workshop: Workshop, processes: ProcessExecutor) -> Start:
    """Begin a run of this code as a plain process, with these keys in info.json."""
    numbers = iter(range(1, 100))

    def start(code: str, *, files: dict[str, str] | None = None, **info: Any) -> InBackground:
        number = next(numbers)
        keys = {"command": ["python3", "run.py"], "trusted": True, **info}
        stream = workshop.stream(f"s{number}", keys, {"run.py": dedent(code), **(files or {})})
        assert processes.why_not(stream) is None, processes.why_not(stream)
        return begin(processes, workshop.run_of(processes, stream, number))

    return start


def test_it_gets_its_places_and_the_nodes_interpreter(started: Start, workshop: Workshop) -> None:
    base = workshop.settings.streams_folder / "base"
    base.mkdir(parents=True)
    (base / "shipped_for_authors.py").write_text("WORD = 'helper'")
    code = """
    import json, os, sys, pydicom, numpy, shipped_for_authors
    place = os.environ
    print(shipped_for_authors.WORD, sys.prefix != sys.base_prefix, place["OWN"])
    print(open(place["BROOKBOX_INPUT"] + "/00001.dcm").read())
    print(json.load(open(place["BROOKBOX_JOB"] + "/info.json")))
    print(open(place["BROOKBOX_MODELS"] + "/weights").read())
    open(os.path.join(place["HOME"], "cache"), "w").write("x")
    open(place["TMPDIR"] + "/scratch", "w").write("x")
    open(place["BROOKBOX_OUTPUT"] + "/result", "w").write("done")
    open(place["BROOKBOX_INPUT"] + "/00002.dcm", "w").write("overwritten")
    print("secrets" if "SECRET_OF_THE_NODE" in place else "no secrets")
    """
    os.environ["SECRET_OF_THE_NODE"] = "x"
    try:
        begun = started(code, models="models", files={"models/weights": "www"}, env={"OWN": "env"})
    finally:
        ended = begun.end()
        del os.environ["SECRET_OF_THE_NODE"]
    assert (ended.how, ended.exit_code) == ("exited", 0), begun.log
    lines = begun.log.splitlines()
    inside_venv = sys.prefix != sys.base_prefix
    assert lines == [f"helper {inside_venv} env", "stored 1", "{'job': 1}", "www", "no secrets"]
    assert (begun.run.folder.output / "result").read_text() == "done"
    assert (workshop.layout.studies / "1-2.dcm").read_bytes() == b"stored 2"
    left = {path.name for path in begun.run.folder.path.iterdir()}
    assert left == {"INPUT", "OUTPUT", "info.json", "processing.log"}
    assert {path.lstat().st_uid for path in begun.run.folder.path.rglob("*")} == {os.geteuid()}


@pytest.mark.parametrize(
    ("code", "keys", "how", "key"),
    [
        (
            "import time\nwhile True: time.sleep(1)",
            {"timeout_minutes": 0.03}, "timeout", "timeout_minutes",
        ),
        # Little by little, by a child: no single limit of the kernel stops it.
        (
            "import subprocess, sys\n"
            "code = 'import time\\nx = []\\n'\n"
            "code += 'while True: x.append(bytearray(2**20)); time.sleep(.003)'\n"
            "subprocess.run([sys.executable, '-c', code])",
            {"memory_gb": 0.2}, "memory", "memory_gb",
        ),
        ("x = bytearray(8 * 2**30)", {"memory_gb": 0.2}, "memory", "memory_gb"),
        ("import os\nopen(os.environ['BROOKBOX_OUTPUT'] + '/x', 'wb').write(bytes(5 * 10**7))",
         {"output_gb": 0.02}, "output", "output_gb"),
        (
            "import os, time\n"
            "for n in range(2000):\n"
            "    open(os.environ['BROOKBOX_OUTPUT'] + f'/{n}', 'wb').write(bytes(10**6))\n"
            "    time.sleep(0.01)",
            {"output_gb": 0.02}, "output", "output_gb",
        ),
        (
            "import os, time\n"
            "for n in range(10**5): open(os.environ['BROOKBOX_OUTPUT'] + f'/{n}', 'w').close()\n"
            "time.sleep(5)",
            {"output_files": 500}, "output", "output_files",
        ),
    ],
    ids=["time", "memory of a child", "memory at once", "one file", "output", "many files"],
)  # fmt: skip
def test_a_limit_that_is_hit_names_the_key_to_change(
    started: Start, code: str, keys: dict[str, object], how: str, key: str
) -> None:
    begun = started(code, **keys)
    ended = begun.end()
    assert ended.how == how, (ended, begun.log)
    assert f"{key} in info.json" in ended.sentence
    assert begun.log.rstrip().endswith(ended.sentence)


def test_memory_that_processes_share_counts_once(started: Start) -> None:
    code = """
    import mmap, os, time
    block = mmap.mmap(-1, 100 * 2**20)
    block[:] = b"x" * len(block)
    for n in range(4):
        if os.fork() == 0:
            assert sum(block[::4096]); time.sleep(2); os._exit(0)
    for n in range(4): os.wait()
    """
    ended = started(code, memory_gb=0.25).end()
    assert (ended.how, ended.exit_code) == ("exited", 0), ended
    assert ended.peak_memory_bytes and ended.peak_memory_bytes > 100 * 2**20


def test_a_fork_bomb_is_held_at_pids_and_ended_whole(started: Start) -> None:
    require.root()  # of another user the kernel counts every process, also this test's
    code = """
    import os
    while True:
        try: os.fork()
        except OSError: pass
    """
    begun = started(code, pids=40, timeout_minutes=0.04)
    wait_for(lambda: _bearers(), "it forks", 10)
    time.sleep(1)
    # The kernel counts for the user: what else ran as that one at the start is room as well.
    most, _ = psutil.Process(_bearers()[0]).rlimit(psutil.RLIMIT_NPROC)
    assert most >= 40 and len(_bearers()) <= most
    assert begun.end(40).how == "timeout"
    assert _bearers() == []


def test_what_leaves_its_session_and_its_parents_is_ended_too(started: Start) -> None:
    code = """
    import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True: time.sleep(0.1)
        os._exit(0)
    os.wait()
    print("ends")
    """
    begun = started(code)
    ended = begun.end()
    assert (ended.how, ended.exit_code) == ("exited", 0)
    wait_for(lambda: _bearers() == [], "nothing is left alive", 20)


@pytest.mark.parametrize(("which", "how"), [("cancelled", "cancelled"), ("stopping", "stopped")])
def test_a_cancelled_or_stopped_run_may_end_well_and_soon(
    started: Start, which: str, how: str
) -> None:
    code = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda *a: (print("ends well"), sys.exit(0)))
    print("runs")
    while True: time.sleep(0.1)
    """
    begun = started(code)
    wait_for(lambda: "runs" in begun.log, "it runs", 20)
    getattr(begun.watch, which).set()
    assert begun.end(8).how == how
    assert "ends well" in begun.log


def test_a_program_that_ignores_sigterm_is_killed(started: Start) -> None:
    code = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True: time.sleep(0.1)
    """
    begun = started(code, timeout_minutes=0.02)
    assert begun.end(30).how == "timeout"
    assert _bearers() == []


def test_a_missing_program_fails_the_job_and_says_so(started: Start) -> None:
    ended = started("", command=["/opt/nothing/here"]).end()
    assert (ended.how, ended.exit_code) == ("exited", 127)
    assert "could not be started" in ended.sentence and "/opt/nothing/here" in ended.sentence


def test_an_exit_code_and_a_signal_are_said(started: Start) -> None:
    assert started("import sys; sys.exit(3)").end().exit_code == 3
    ended = started("import os; os.kill(os.getpid(), 11)").end()
    assert ended.exit_code == 139 and "SIGSEGV" in ended.sentence


def test_it_dies_with_its_worker_and_the_next_one_sweeps_the_rest(workshop: Workshop) -> None:
    code = f"""
    from pathlib import Path
    from appliance.settings import Settings
    from appliance.worker.plain_process import ProcessExecutor
    from tests.kit.runs import Bystander, Workshop
    shop = Workshop(Settings(home=Path({str(workshop.settings.home)!r})))
    executor = ProcessExecutor(shop.settings)
    forks = "import os, time\\nos.fork() or os.setsid()\\nwhile True: time.sleep(0.1)"
    stream = shop.stream("hangs", {{"command": ["python3", "run.py"], "trusted": True}},
                         {{"run.py": forks}})
    executor.run(shop.run_of(executor, stream), Bystander())
    """
    root = Path(__file__).resolve().parents[2]
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, "PYTHONPATH": str(root)}
    )
    wait_for(lambda: len(_bearers(worker.pid)) >= 2, "it runs", 20)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    ProcessExecutor(workshop.settings).sweep(lambda name: name.split("/")[1] != str(worker.pid))
    wait_for(lambda: _bearers(worker.pid) == [], "nothing is left alive", 20)


def test_as_root_it_is_nobody_in_a_world_without_the_node(
    started: Start, workshop: Workshop
) -> None:
    require.root()
    workshop.job_folder(77, copy=False)
    data_root, stored = workshop.settings.data_root, workshop.layout.studies / "77-1.dcm"
    code = f"""
    import ctypes, os, socket
    def attempt(name, function):
        try: answer = function()
        except OSError as error: print("no", name, error); return
        print("COULD" if answer else "no", name, answer)
    print("uid", os.getuid(), os.getgid(), os.getgroups())
    attempt("see the data folder", lambda: os.listdir({str(data_root)!r}))
    attempt("read the store", lambda: open({str(stored)!r}).read())
    attempt("see processes of the machine", lambda: len([p for p in os.listdir("/proc") if p.isdigit()]) > 5)
    attempt("become root", lambda: os.setuid(0) or True)
    attempt("write to its stream", lambda: open("run.py", "a"))
    attempt("read /etc/shadow", lambda: open("/etc/shadow").read())
    attempt("reach the network", lambda: socket.create_connection(("1.1.1.1", 53), 2))
    attempt("see another interface", lambda: [n for _, n in socket.if_nameindex() if n != "lo"])
    attempt("unmount what covers the data", lambda: ctypes.CDLL(None).umount2({str(data_root)!r}.encode(), 2) == 0)
    attempt("read the launcher's memory", lambda: open("/proc/1/mem", "rb").read(1))
    attempt("use docker", lambda: socket.socket(socket.AF_UNIX).connect("/run/docker.sock") or True)
    attempt("link its input into its output", lambda: os.link(os.environ["BROOKBOX_INPUT"] + "/00001.dcm", os.environ["BROOKBOX_OUTPUT"] + "/l") or True)
    attempt("write to /tmp of the machine", lambda: open("/tmp/left-by-a-stream", "w") and False)
    print("ALL TRIED")
    """  # noqa: E501
    begun = started(code, trusted=True)
    begun.end()
    assert "ALL TRIED" in begun.log, begun.log
    assert "COULD" not in begun.log, begun.log
    assert "uid 65534 65534 []" in begun.log
    assert not Path("/tmp/left-by-a-stream").exists()


def test_without_root_only_a_trusted_stream_runs(workshop: Workshop) -> None:
    keys = {"image": "any:1", "command": ["python3", "run.py"]}
    stream = workshop.stream("s", keys, {"run.py": ""})
    waits = ProcessExecutor(workshop.settings).why_not(stream)
    assert waits is not None and '"trusted": true' in waits.remedy
    host = workshop.stream("h", {}, {"work.sh": "#!/bin/sh\n"})
    waits = ProcessExecutor(workshop.settings).why_not(host)
    if os.geteuid() == 0:
        assert waits is None
    else:
        assert waits is not None and "could read everything" in waits.sentence


def test_where_docker_is_switched_off_root_runs_any_stream_without_network(
    workshop: Workshop,
) -> None:
    require.root()
    settings = Settings(home=workshop.settings.home, worker=WorkerSettings(docker="never"))
    executor = ProcessExecutor(settings)
    keys = {"image": "any:1", "command": ["python3", "run.py"]}
    stream = workshop.stream("s", keys, {"run.py": "print('fine')"})
    assert executor.why_not(stream) is None
    assert executor.run(workshop.run_of(executor, stream), Bystander()).exit_code == 0
    networked = workshop.stream("n", {**keys, "network": True}, {"run.py": ""})
    waits = executor.why_not(networked)
    assert waits is not None and "network" in waits.sentence


def _bearers(worker: int = 0) -> list[int]:
    """List what runs of this worker's, a process of this machine; 0 is the test itself."""
    found = []
    for process in psutil.process_iter():
        try:
            token = process.environ().get("BROOKBOX_JOB_TOKEN", "")
            if f"/{worker or os.getpid()}/" in token and process.status() != "zombie":
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_a_run_that_was_replaced_leaves_the_next_attempt_its_folder(
    workshop: Workshop, processes: ProcessExecutor
) -> None:
    code = "import os, time; print('runs', flush=True); time.sleep(60)"
    stream = workshop.stream(
        "slow", {"command": ["python3", "run.py"], "trusted": True}, {"run.py": code}
    )
    begun = begin(processes, workshop.run_of(processes, stream))
    wait_for(lambda: "runs" in begun.log, "it runs", 20)
    folder = begun.run.folder
    for name in ("told", "tmp", "OUTPUT"):
        shutil.rmtree(folder.path / name, ignore_errors=True)
        (folder.path / name).mkdir()
        (folder.path / name).chmod(0o2700)
    _prepared_again(folder, 1)
    begun.watch.cancelled.set()
    begun.end(20)
    assert folder.output.stat().st_mode & 0o7777 == 0o2700
    assert (folder.path / "told").is_dir() and (folder.path / "tmp").is_dir()


def test_the_process_of_a_worker_that_hangs_is_ended_before_the_next_attempt(
    workshop: Workshop, processes: ProcessExecutor, tmp_path: Path
) -> None:
    keys = {"command": ["python3", "run.py"], "trusted": True}
    forever = {"run.py": "import time; print('runs', flush=True); time.sleep(60)"}
    first = workshop.run_of(processes, workshop.stream("hangs", keys, forever), job_id=7)
    begun = begin(processes, replace(first, worker="host/1/1.0"))
    wait_for(lambda: "runs" in begun.log, "it runs", 20)

    elsewhere = Workshop(Settings(home=tmp_path / "other"))
    executor = ProcessExecutor(elsewhere.settings)
    stream = elsewhere.stream("quick", keys, {"run.py": "print('done')"})
    begin(executor, elsewhere.run_of(executor, stream, job_id=7)).end(20)
    assert begun.thread.is_alive(), "a job of another node with the same number was ended"

    quick = workshop.stream("quick", keys, {"run.py": "print('done')"})
    second = workshop.run_of(processes, quick, job_id=7, attempt=2)
    _prepared_again(second.folder, 7)
    begin(processes, replace(second, worker="host/2/2.0")).end(20)
    assert begun.end(20).exit_code == 137


def test_a_run_that_ends_leaves_the_kept_folder_to_the_one_beside_it(
    workshop: Workshop, processes: ProcessExecutor
) -> None:
    require.root()
    code = """
    import os, time
    open(os.environ["BROOKBOX_MEMORY"] + "/begun", "a").close()
    while not os.path.exists(os.environ["BROOKBOX_INPUT"] + "/go"):
        time.sleep(0.05)
    open(os.environ["BROOKBOX_MEMORY"] + "/end", "a").close()
    """
    keys = {"command": ["python3", "run.py"], "trusted": True, "memory": True, "lanes": 2}
    stream = workshop.stream("kept", keys, {"run.py": dedent(code)})
    runs = [begin(processes, workshop.run_of(processes, stream, job_id=n)) for n in (1, 2)]
    for run in runs:
        (run.run.folder.input / "go").touch()
        ended = run.end(30)
        assert ended.exit_code == 0, run.log


def _prepared_again(folder: JobFolder, job_id: int) -> None:
    """Put the next attempt's info.json there, which `prepare` removes first and writes anew."""
    folder.info.unlink(missing_ok=True)
    folder.info.write_text(json.dumps({"job": job_id, "attempt": 2}))
