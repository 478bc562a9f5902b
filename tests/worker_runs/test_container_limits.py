"""A container has what real programs need, and each limit ends it with the key to change."""

from __future__ import annotations

import pytest

from tests.worker_runs.conftest import Begin

# As PyTorch's loaders do: threads, processes that share memory, a cache in HOME.
LIKE_A_MODEL = """
import multiprocessing as mp, os, threading, time
from multiprocessing import shared_memory

go = threading.Event()
threads = [threading.Thread(target=go.wait) for _ in range(200)]
for one in threads: one.start()

block = shared_memory.SharedMemory(create=True, size=512 * 2**20)
def fill(part):
    own = shared_memory.SharedMemory(name=block.name)
    size = 128 * 2**20
    own.buf[part * size:(part + 1) * size] = bytes([part + 1]) * size
go_on = [mp.get_context("fork").Process(target=fill, args=(n,)) for n in range(4)]
for one in go_on: one.start()
for one in go_on: one.join(); assert one.exitcode == 0, one.exitcode
assert [block.buf[n * 128 * 2**20] for n in range(4)] == [1, 2, 3, 4]
block.unlink()
go.set()

cache = os.path.expanduser("~/.cache/model")
os.makedirs(cache)
program = os.path.join(cache, "compiled")
with open(program, "w") as file: file.write("#!/bin/sh\\necho ran what it compiled\\n")
os.chmod(program, 0o755)
assert os.system(program) == 0
with open("/tmp/scratch", "w") as file: file.write("x")
print("weights", open("/models/weights.bin").read())
try: open("/models/weights.bin", "a"); print("MODELS CAN BE WRITTEN")
except OSError: pass
open("/output/result.txt", "w").write("done")
"""


def test_a_program_like_a_real_model_runs_on_the_defaults(contained: Begin) -> None:
    begun = contained(LIKE_A_MODEL, files={"models/weights.bin": "w" * 9}, models="models")
    ended = begun.end()
    assert (ended.how, ended.exit_code, ended.sentence) == ("exited", 0, ""), begun.log
    assert "weights wwwwwwwww" in begun.log and "ran what it compiled" in begun.log
    assert "MODELS CAN BE WRITTEN" not in begun.log
    assert (begun.run.folder.output / "result.txt").read_text() == "done"
    assert ended.image_id.startswith("sha256:")
    assert ended.peak_memory_bytes and ended.peak_memory_bytes > 10_000_000


@pytest.mark.parametrize(
    ("code", "keys", "how", "key"),
    [
        (
            "import time\nwhile True: time.sleep(1)",
            {"timeout_minutes": 0.03}, "timeout", "timeout_minutes",
        ),
        ("x = bytearray(400 * 2**20)", {"memory_gb": 0.1}, "memory", "memory_gb"),
        # The child dies of it, the parent ends well enough to print what it wants.
        (
            "import subprocess, sys\n"
            "subprocess.run([sys.executable, '-c', 'bytearray(400 * 2**20)'], check=True)",
            {"memory_gb": 0.1}, "memory", "memory_gb",
        ),
        (
            "import threading, time\n"
            "for n in range(100): threading.Thread(target=time.sleep, args=(2,)).start()",
            {"pids": 50}, "pids", "pids",
        ),
        (
            "for n in range(2000):\n"
            "    open(f'/output/{n}', 'wb').write(bytes(10**6))\n"
            "    import time; time.sleep(0.01)",
            {"output_gb": 0.02}, "output", "output_gb",
        ),
        (
            "open('/output/one', 'wb').write(bytes(5 * 10**7))",
            {"output_gb": 0.02}, "output", "output_gb",
        ),
        (
            "import os, time\n"
            "f = open('/output/gone', 'wb'); os.unlink('/output/gone')\n"
            "for n in range(3):\n"
            "    g = open(f'/output/gone{n}', 'wb'); os.unlink(g.name); globals()[f'k{n}'] = g\n"
            "    g.write(bytes(15 * 2**20)); g.flush()\n"
            "time.sleep(30)",
            {"output_gb": 0.02}, "output", "output_gb",
        ),
        (
            "import time\nfor n in range(10**6): open(f'/output/{n}', 'w').close()",
            {"output_files": 500}, "output", "output_files",
        ),
        ("open('/tmp/x', 'wb').write(bytes(3 * 2**20))", {"tmp_mb": 2}, "exited", "tmp_mb"),
        ("open('/dev/shm/x', 'wb').write(bytes(3 * 2**20))", {"shm_mb": 2}, "exited", "shm_mb"),
        (
            "import mmap, os\n"
            "f = os.open('/dev/shm/x', os.O_RDWR | os.O_CREAT); os.ftruncate(f, 3 * 2**20)\n"
            "m = mmap.mmap(f, 3 * 2**20); m[:] = bytes(3 * 2**20)",
            {"shm_mb": 2}, "exited", "shm_mb",
        ),
        (
            "import urllib.request\nurllib.request.urlopen('http://example.org')",
            {}, "exited", "network",
        ),
    ],
    ids=[
        "time", "memory", "memory of a child", "threads", "output", "one file", "deleted files",
        "many files", "tmp", "shm", "shared memory", "network",
    ],
)  # fmt: skip
def test_a_limit_that_is_hit_names_the_key_to_change(
    contained: Begin, code: str, keys: dict[str, object], how: str, key: str
) -> None:
    begun = contained(code, **keys)
    ended = begun.end()
    assert ended.how == how, (ended, begun.log)
    assert key in ended.sentence and "info.json" in ended.sentence, ended
    assert "info.json" in ended.remedy
    assert begun.log.rstrip().endswith(ended.sentence)


def test_a_log_that_is_too_long_keeps_its_head_and_its_end(contained: Begin) -> None:
    code = """
    for n in range(300_000): print("line", n, "x" * 30)
    """
    begun = contained(code, log_mb=1)
    ended = begun.end()
    assert ended.exit_code == 0
    assert begun.run.folder.log.stat().st_size <= 1_000_000
    lines = begun.log.splitlines()
    assert lines[0].startswith("line 0 ") and lines[-1].startswith("line 299999 ")
    assert any("bytes were left out here (log_mb in info.json)" in line for line in lines)


def test_an_image_cannot_write_to_a_volume_of_its_own_without_limit(contained: Begin) -> None:
    code = """
    try: open("/data/fill", "wb").write(bytes(5 * 2**20))
    except OSError as error: print("refused:", error.strerror)
    """
    begun = contained(code, tmp_mb=2)
    assert begun.end().exit_code == 0
    assert "refused: No space left on device" in begun.log


def test_the_memory_folder_is_kept_from_job_to_job(contained: Begin) -> None:
    code = """
    import os
    print("before", sorted(os.listdir("/memory")))
    open("/memory/learned", "w").write("x")
    """
    first = contained(code, memory=True, AETitle="../Learner")
    assert first.end().exit_code == 0, first.log
    again = contained(code, memory=True, AETitle="../Learner")
    assert again.end().exit_code == 0, again.log
    assert "before []" in first.log and "before ['learned']" in again.log
