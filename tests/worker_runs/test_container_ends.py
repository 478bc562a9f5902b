"""How a container's run ends, and that nothing of it is left, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import StreamError, StreamUnavailable
from appliance.settings import Node, Settings
from appliance.settings import Worker as WorkerSettings
from appliance.worker.container import Docker
from appliance.worker.container_runs import ContainerExecutor
from tests.kit import engine, require
from tests.kit.runs import Bystander, Workshop, alive_with_environment, begin
from tests.kit.waiting import wait_for
from tests.worker_runs.conftest import Begin

FOREVER = "import time\nprint('runs', flush=True)\nwhile True: time.sleep(0.1)"


def test_lines_are_in_the_log_as_they_are_printed(contained: Begin) -> None:
    code = """
    import sys, time
    print("first", flush=True); print("error", file=sys.stderr, flush=True)
    sys.stdout.write("no end of line"); sys.stdout.flush()
    time.sleep(30)
    """
    begun = contained(code)
    # Two pipes: which of them is read first, nobody promises.
    words = ("first\n", "error\n", "no end of line")
    wait_for(lambda: all(word in begun.log for word in words), "the lines are there", 10)
    begun.watch.cancelled.set()
    begun.end(20)


def test_a_log_keeps_every_byte_of_much_output(contained: Begin) -> None:
    begun = contained("for n in range(200_000): print(n, 'x' * 60)")
    assert begun.end().exit_code == 0
    assert [int(line.split()[0]) for line in begun.log.splitlines()] == list(range(200_000))


def test_an_exit_code_is_kept_and_said(contained: Begin) -> None:
    ended = contained("import sys; sys.exit(3)").end()
    assert (ended.how, ended.exit_code) == ("exited", 3)
    assert ended.sentence == "It ended with exit code 3."


def test_a_crash_is_said_by_its_signal(contained: Begin) -> None:
    ended = contained("import os; os.kill(os.getpid(), 11)").end()
    assert ended.exit_code == 139 and "SIGSEGV" in ended.sentence


@pytest.mark.parametrize(("which", "how"), [("cancelled", "cancelled"), ("stopping", "stopped")])
def test_a_cancelled_or_stopped_run_ends_soon(
    contained: Begin, docker_required: Docker, which: str, how: str
) -> None:
    begun = contained(FOREVER)
    wait_for(lambda: "runs" in begun.log, "it runs", 20)
    getattr(begun.watch, which).set()
    assert begun.end(20).how == how
    assert docker_required.labelled(f"brookbox.worker={begun.run.worker}") == []


def test_a_program_that_is_not_in_the_image_fails_the_job_and_says_so(contained: Begin) -> None:
    ended = contained("", command=["/opt/nothing"]).end()
    assert (ended.how, ended.exit_code) == ("exited", 127)
    assert "could not be started" in ended.sentence


def test_a_missing_image_makes_the_stream_wait_and_is_never_pulled(
    workshop: Workshop, containers: ContainerExecutor
) -> None:
    stream = workshop.stream("absent", {"image": "brookbox-test/absent:9", "command": ["true"]})
    waits = containers.why_not(stream)
    assert waits is not None
    assert waits.sentence == "Image brookbox-test/absent:9 is not on this machine"
    assert waits.remedy == "brookbox streams pull ABSENT"
    ended = containers.run(workshop.run_of(containers, stream), Bystander())
    assert ended.how == "unavailable"


def test_without_an_engine_a_stream_waits(workshop: Workshop, tmp_path: Path) -> None:
    nowhere = replace(
        workshop.settings, worker=WorkerSettings(docker_url=f"unix://{tmp_path}/none.sock")
    )
    executor = ContainerExecutor(nowhere)
    stream = workshop.stream("s", {"image": "any:1", "command": ["true"]})
    waits = executor.why_not(stream)
    assert waits is not None and waits.sentence == "Docker does not answer"
    assert executor.run(workshop.run_of(executor, stream), Bystander()).how == "unavailable"
    executor.sweep(lambda worker: False)


def test_the_container_of_a_dead_worker_is_found_and_removed(
    workshop: Workshop, containers: ContainerExecutor, docker_required: Docker, image: str
) -> None:
    worker = _worker_in_a_process_of_its_own(workshop, image)
    run = f"brookbox.node={workshop.settings.data_root.absolute()}"
    wait_for(lambda: docker_required.labelled(run), "its container runs", 30)
    worker.kill()
    worker.wait()
    containers.sweep(lambda name: True)
    assert docker_required.labelled(run) != []
    containers.sweep(lambda name: name.split("/")[1] != str(worker.pid))
    assert docker_required.labelled(run) == []


def test_what_an_earlier_attempt_left_is_removed_before_the_next_one_runs(
    workshop: Workshop, containers: ContainerExecutor, docker_required: Docker, image: str
) -> None:
    worker = _worker_in_a_process_of_its_own(workshop, image)
    labels = f"brookbox.node={workshop.settings.data_root.absolute()}"
    wait_for(lambda: docker_required.labelled(labels), "its container runs", 30)
    worker.send_signal(signal.SIGSTOP)  # it hangs, and its lease runs out
    try:
        keys = {"image": image, "command": ["python3", "/opt/run.py"], "env": {"CODE": FOREVER}}
        stream = workshop.stream("left", keys)
        begun = begin(containers, workshop.run_of(containers, stream, job_id=5, attempt=2))
        wait_for(lambda: "runs" in begun.log, "the second attempt runs", 20)
        attempts = [found["brookbox.attempt"] for _, found in docker_required.labelled(labels)]
        assert attempts == ["2"]
        begun.watch.cancelled.set()
        begun.end(20)
    finally:
        worker.kill()
        worker.wait()


def test_what_the_engine_refuses_leaves_nothing_open(
    workshop: Workshop, containers: ContainerExecutor, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = workshop.stream("refused", {"image": image, "command": ["python3", "/opt/run.py"]})
    run = workshop.run_of(containers, stream)

    def refuse(self: Docker, config: object) -> str:
        raise StreamError("no", remedy="none")

    monkeypatch.setattr(Docker, "create", refuse)
    containers.run(run, Bystander())
    before = len(os.listdir("/proc/self/fd"))
    assert containers.run(run, Bystander()).how == "unavailable"
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_an_engine_that_goes_away_puts_the_job_back(tmp_path: Path, image: str, how: str) -> None:
    require.root()
    with engine.private() as private:
        copied = engine.copy(private.docker, image)
        home = tmp_path / "home"
        home.mkdir()
        settings = Settings(
            home=home, node=Node(data_root="data"), worker=WorkerSettings(docker_url=private.url)
        )
        workshop = Workshop(settings)
        workshop.layout.make()
        executor = ContainerExecutor(settings)
        code = f"{FOREVER}  # {uuid.uuid4()}"
        keys = {"image": copied, "command": ["python3", "/opt/run.py"], "env": {"CODE": code}}
        stream = workshop.stream("s", keys)
        begun = begin(executor, workshop.run_of(executor, stream))
        wait_for(lambda: "runs" in begun.log, "it runs", 60)
        if how == "killed":
            private.kill()
        else:
            private.stop()
        ended = begun.end(60)
        assert ended.how == "unavailable" and "Docker" in ended.sentence
        wait_for(lambda: not alive_with_environment(code), "nothing of it is left alive", 20)
        private.start()
        again = begin(executor, workshop.run_of(executor, stream, attempt=2))
        wait_for(lambda: again.log.count("runs") == 2, "it runs again", 60)
        again.watch.cancelled.set()
        assert again.end(30).how == "cancelled"


@pytest.mark.timeout(240)
def test_an_engine_killed_before_it_said_started_leaves_nothing_alive(
    tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require.root()
    with engine.private() as private:
        copied = engine.copy(private.docker, image)
        home = tmp_path / "home"
        home.mkdir()
        worker_settings = WorkerSettings(docker_url=private.url)
        settings = Settings(home=home, node=Node(data_root="data"), worker=worker_settings)
        workshop = Workshop(settings)
        workshop.layout.make()
        executor = ContainerExecutor(settings)
        code = f"{FOREVER}  # {uuid.uuid4()}"
        keys = {"image": copied, "command": ["python3", "/opt/run.py"], "env": {"CODE": code}}
        run = workshop.run_of(executor, workshop.stream("s", keys))
        start = Docker.start

        def start_and_lose_the_answer(self: Docker, container: str) -> None:
            start(self, container)
            wait_for(lambda: alive_with_environment(code), "it runs", 20)
            private.kill()
            raise StreamUnavailable("Docker does not answer", remedy="systemctl start docker")

        monkeypatch.setattr(Docker, "start", start_and_lose_the_answer)
        assert executor.run(run, Bystander()).how == "unavailable"
        wait_for(lambda: not alive_with_environment(code), "nothing of it is left alive", 20)


def _worker_in_a_process_of_its_own(workshop: Workshop, image: str) -> subprocess.Popen[bytes]:
    """Run job 5 in another process, which the test kills."""
    code = f"""
    from pathlib import Path
    from appliance.settings import Settings
    from appliance.worker.container_runs import ContainerExecutor
    from tests.kit.runs import Bystander, Workshop
    shop = Workshop(Settings(home=Path({str(workshop.settings.home)!r})))
    keys = {{"image": {image!r}, "command": ["python3", "/opt/run.py"],
             "env": {{"CODE": {FOREVER!r}}}}}
    executor = ContainerExecutor(shop.settings)
    run = shop.run_of(executor, shop.stream("hangs", keys), job_id=5)
    executor.run(run, Bystander())
    """
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(root)},
    )
