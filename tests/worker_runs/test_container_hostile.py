"""A hostile image gets nothing of what it tries, harms nothing, and the next run works.

FAULTS.md AT-19 to AT-22; what a hostile OUTPUT may do to the results is the harvest's.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
import uuid
from pathlib import Path

import pytest

from tests.kit.runs import Workshop, alive_with_environment
from tests.kit.waiting import wait_for
from tests.worker_runs.conftest import Begin

# Tries what a container must not be able to do, and prints what it could.
TRIES = """
import ctypes, os, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)

def attempt(name):
    def run(function):
        try: answer = function()
        except BaseException as error: print(f"no {name}: {type(error).__name__} {error}"); return
        print(f"COULD {name}: {answer}" if answer else f"no {name}")
    return run

def call(number): return number == 0

@attempt("be root")
def _(): return os.geteuid() == 0
@attempt("become root")
def _(): os.setuid(0); return True
@attempt("have capabilities")
def _():
    status = open("/proc/self/status").read()
    sets = {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}
    return any(sets.values()) and sets
@attempt("gain privileges")
def _(): return "NoNewPrivs:\\t0" in open("/proc/self/status").read()
@attempt("mount")
def _(): return call(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
@attempt("make namespaces")
def _(): return call(libc.unshare(0x10000000))
@attempt("trace a process of the machine")
def _():
    own = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    return any(call(libc.ptrace(16, pid, 0, 0)) for pid in range(1, 40_000) if pid not in own)
@attempt("read the kernel's memory")
def _(): return open("/proc/kcore", "rb").read(1)
@attempt("write to /proc/sys")
def _(): open("/proc/sys/kernel/core_pattern", "w").write("|/bin/sh"); return True
@attempt("write to /proc/sysrq-trigger")
def _(): open("/proc/sysrq-trigger", "w").write("h"); return True
@attempt("write to the cgroup")
def _():
    for place, folders, files in os.walk("/sys/fs/cgroup"):
        if "memory.limit_in_bytes" in files or "memory.max" in files:
            name = "memory.limit_in_bytes" if "memory.limit_in_bytes" in files else "memory.max"
            open(os.path.join(place, name), "w").write("99999999999"); return True
@attempt("find the engine's socket")
def _():
    return [path for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock") if os.path.exists(path)]
@attempt("see another network interface than lo")
def _(): return [name for name in os.listdir("/sys/class/net") if name != "lo"]
@attempt("reach the network")
def _(): socket.create_connection(("1.1.1.1", 53), 2); return True
@attempt("reach this machine")
def _(): socket.create_connection(("172.17.0.1", 22), 2); return True
@attempt("open a raw socket")
def _(): socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); return True
@attempt("see processes of the machine")
def _(): return [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) > 200]
@attempt("write to its root")
def _(): open("/opt/changed", "w"); return True
@attempt("write to its input")
def _(): open("/input/00001.dcm", "r+b"); return True
@attempt("change the mode of its input")
def _(): os.chmod("/input/00001.dcm", 0o777); return True
@attempt("remove its input")
def _(): os.unlink("/input/00001.dcm"); return True
@attempt("add to its input")
def _(): open("/input/new", "w"); return True
@attempt("change what it is told")
def _(): open("/job/info.json", "a"); return True
@attempt("see more of the job folder")
def _(): return sorted(set(os.listdir("/job")) - {"info.json"}) or os.path.exists("/job/../processing.log")
@attempt("link its input into its output")
def _(): os.link("/input/00001.dcm", "/output/linked"); return True
@attempt("make a device")
def _(): os.mknod("/output/disk", 0o60666, os.makedev(8, 0)); return True
@attempt("find a disk")
def _(): return [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "mem", "kmsg", "loop"))]
@attempt("make a program that runs as root")
def _():
    subprocess.run(["cp", "/bin/sh", "/output/sh"], check=True); os.chmod("/output/sh", 0o4755)
    return subprocess.run(["/output/sh", "-p", "-c", "id -u"], capture_output=True, text=True).stdout.strip() == "0"
@attempt("load a kernel module")
def _(): return call(libc.syscall(175, b"", 0, b""))
@attempt("use bpf")
def _(): return libc.syscall(321, 0, 0, 0) >= 0
@attempt("set the clock")
def _(): import time; time.clock_settime(time.CLOCK_REALTIME, time.time()); return True
print("ALL TRIED")
"""  # noqa: E501


def test_every_way_out_of_a_container_is_closed(contained: Begin, workshop: Workshop) -> None:
    workshop.job_folder(77, copy=False)  # somebody else's input
    before = _fingerprint(workshop.settings.data_root, but=("jobs/1", "studies/1-"))
    begun = contained(TRIES)
    ended = begun.end()
    assert "ALL TRIED" in begun.log, begun.log
    assert "COULD" not in begun.log, begun.log
    assert ended.exit_code == 0
    assert _fingerprint(workshop.settings.data_root, but=("jobs/1", "studies/1-")) == before
    assert (begun.run.folder.input / "00001.dcm").read_bytes() == b"stored 1"
    left = begun.run.folder.output / "sh"
    assert not left.exists() or not left.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    _next_run_works(contained)


LEAVES_BEHIND = """
import os, socket
os.chdir("/output")
os.symlink("/etc/shadow", "shadow"); os.symlink("/input", "input"); os.symlink("/", "root")
os.symlink("../../77/INPUT", "other job")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
open("file", "w").write("x"); os.link("file", "hard")
os.mkdir("loop"); os.symlink("..", "loop/loop")
for name in (b"..evil;$(id)", b"line\\nbreak", b"\\xff\\xfe", b"-rf"): open(name, "w").close()
os.mkdir("closed"); open("closed/in", "w").close(); os.chmod("closed", 0)
os.mkdir("dark"); os.chmod("dark", 0o300)
print("left")
"""


def test_whatever_is_left_in_output_is_neither_followed_nor_in_the_way(
    contained: Begin, workshop: Workshop
) -> None:
    begun = contained(LEAVES_BEHIND)
    ended = begun.end()
    assert (ended.how, ended.exit_code) == ("exited", 0), begun.log
    output = begun.run.folder.output
    assert {b"fifo", b"socket", b"line\nbreak", b"\xff\xfe"} <= set(os.listdir(bytes(output)))
    # It belongs to the worker again, so that it can be read and removed.
    assert (output / "closed" / "in").exists() and os.listdir(output / "dark") == []
    assert {path.lstat().st_uid for path in output.rglob("*")} == {os.geteuid()}
    assert Path("/etc/shadow").stat().st_uid == 0
    _next_run_works(contained)


def test_folders_nested_without_end_are_stopped(contained: Begin) -> None:
    code = """
    import os, time
    os.chdir("/output")
    for n in range(100_000): os.mkdir("d"); os.chdir("d"); time.sleep(0.001)
    """
    begun = contained(code)
    ended = begun.end()
    assert ended.how == "output" and "nested" in ended.sentence
    _next_run_works(contained)


@pytest.mark.parametrize(
    ("code", "keys", "how"),
    [
        (
            "import itertools\n"
            "for n in itertools.count(): open(f'/output/{n}', 'wb').write(bytes(2**20))",
            {"output_gb": 0.05}, {"output"},
        ),
        (
            "import itertools\n"
            "for n in itertools.count(): open(f'/output/{n}', 'wb').close()",
            {"output_files": 2000}, {"output"},
        ),
        ("while True: print('x' * 1000)", {"log_mb": 1, "timeout_minutes": 0.05}, {"timeout"}),
        (
            "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
            {"pids": 64, "timeout_minutes": 0.05}, {"timeout"},
        ),
        ("x = []\nwhile True: x.append(bytearray(2**20))", {"memory_gb": 0.1}, {"memory"}),
        (
            "import os\nfor n in range(4): os.fork()\nwhile True: pass",
            {"timeout_minutes": 0.05}, {"timeout"},
        ),
    ],
    ids=["writes", "files", "log", "forks", "memory", "cpu"],
)  # fmt: skip
def test_what_never_ends_by_itself_is_ended(
    contained: Begin, code: str, keys: dict[str, object], how: set[str]
) -> None:
    begun = contained(code, **keys)
    ended = begun.end(40)
    assert ended.how in how, (ended, begun.log[-500:])
    assert begun.run.folder.log.stat().st_size <= 1_100_000
    _next_run_works(contained)


def test_a_program_that_ignores_sigterm_is_killed_ten_seconds_later(contained: Begin) -> None:
    code = """
    import signal, time
    signal.signal(signal.SIGTERM, lambda *a: print("no"))
    while True: time.sleep(0.1)
    """
    started = time.monotonic()
    begun = contained(code, timeout_minutes=0.05)
    ended = begun.end(40)
    assert ended.how == "timeout" and "no" in begun.log
    assert time.monotonic() - started >= 13
    _next_run_works(contained)


def test_a_busy_container_leaves_the_machine_its_other_processors(contained: Begin) -> None:
    code = f"import os\nfor n in range(3): os.fork()\nwhile True: pass  # {uuid.uuid4()}"
    begun = contained(code, timeout_minutes=0.25, cpus=0.2)
    wait_for(lambda: len(alive_with_environment(code)) >= 8, "all of it runs", 10)
    busy = alive_with_environment(code)
    for process in busy:
        process.cpu_percent()
    time.sleep(1.5)
    used = sum(process.cpu_percent() for process in busy)
    assert used < 60, used  # 20 % of one processor was allowed
    assert begun.end(60).how == "timeout"


def _next_run_works(contained: Begin) -> None:
    ended = contained("print('fine')").end()
    assert (ended.how, ended.exit_code) == ("exited", 0)


def _fingerprint(root: Path, but: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(but):
            continue
        status = path.lstat()
        facts = f"{status.st_mode} {status.st_uid} {status.st_size}"
        if path.is_file():
            facts += hashlib.sha256(path.read_bytes()).hexdigest()
        found[name] = facts
    return found
