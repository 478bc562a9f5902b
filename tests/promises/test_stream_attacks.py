"""AT-08, AT-24: what an author or a sender writes is never a shell word or a wider grant."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pydicom
import pytest

from appliance.receiver.admission import Load, Reject, Request, decide
from appliance.settings import Settings
from appliance.streams.catalog import Streams, read_stream
from appliance.streams.limits import limits_of
from appliance.worker.container import Docker
from appliance.worker.container_runs import ContainerExecutor
from appliance.worker.executor import Run
from appliance.worker.models import models_folder, why_no_models
from appliance.worker.profile import Ground, Place, User, container_config
from tests.kit.alone import CHECKOUT
from tests.kit.bench import Bench
from tests.kit.dicom import ct_study
from tests.kit.runs import Workshop, job
from tests.kit.scripts import QUICK

GROUND = Ground(
    image_id="sha256:1",
    volumes=(),
    user=User(65534, 65534),
    places=(Place(Path("/j/OUTPUT"), "/output", read_only=False),),
    cpus_here=2,
    is_remapped=False,
    labels={},
)
# Keys of Docker, of its API and of docker compose, that would open the container.
WIDENING: dict[str, Any] = {
    "privileged": True,
    "network_mode": "host",
    "volumes": ["/:/host"],
    "binds": ["/etc:/etc"],
    "mounts": [{"source": "/", "target": "/host"}],
    "cap_add": ["SYS_ADMIN"],
    "devices": ["/dev/mem"],
    "pid": "host",
    "ipc": "host",
    "userns": "host",
    "security_opt": ["seccomp=unconfined"],
    "user": "0:0",
    "entrypoint": ["/bin/sh"],
    "docker_arguments": "--privileged",
    "runtime": "runc",
    "HostConfig": {"Privileged": True},
}


def stream_folder(tmp_path: Path, *, ours: bool = True, **more: Any) -> Path:
    folder = tmp_path / "streams" / "evil"
    folder.mkdir(parents=True)
    keys: dict[str, Any] = {"AETitle": "EVIL", "image": "a/b:1"}
    if ours:
        keys["command"] = ["run"]
    (folder / "info.json").write_text(json.dumps(keys | more))
    return folder


@pytest.mark.parametrize("key", WIDENING)
def test_at_24_a_key_that_would_open_the_container_is_refused(tmp_path: Path, key: str) -> None:
    stream = read_stream(stream_folder(tmp_path, **{key: WIDENING[key]}))
    assert not stream.is_good
    assert any(key in str(problem) for problem in stream.problems)
    verdict = decide(Request("EVIL", "CT1", "10.0.0.1"), Streams((stream,)), Settings(), Load())
    assert isinstance(verdict, Reject)
    assert (verdict.result, verdict.reason) == (1, 7)


def test_at_24_magickbox_folders_with_such_keys_gain_nothing(tmp_path: Path) -> None:
    """Their own unknown keys are only warned of; the container is made without them."""
    settings = Settings(home=tmp_path)
    plain, evil = (
        container_config(
            Run(
                job=job(1, "EVIL"),
                stream=(stream := read_stream(stream_folder(folder, ours=False, **keys))),
                folder=Workshop(settings).layout.job(1),
                limits=limits_of(stream.good_info, settings),
                devices=(),
                worker="w/1/1",
            ),
            GROUND,
        )
        for folder, keys in ((tmp_path / "a", {}), (tmp_path / "b", WIDENING))
    )
    assert plain == evil
    assert not evil["HostConfig"]["Privileged"]
    assert evil["HostConfig"]["NetworkMode"] == "none"


@pytest.mark.parametrize(
    "keys",
    [
        {"network": "host"},
        {"image": "--privileged"},
        {"image": "-v /:/host a/b"},
        {"image": "a/b:1 --network host"},
        {"image": "a/b:1\n--privileged"},
        {"image": "a/b;touch x"},
        {"image": "$(touch x)"},
        {"image": "../../var/run/docker.sock"},
        {"models": "/"},
        {"models": "../../data"},
        {"models": "a/../../.."},
        {"env": {"BROOKBOX_OUTPUT": "/input"}},
        {"env": {"A=B": "c"}},
        {"env": {"A B": "c"}},
        {"env": {"": "c"}},
        {"env": {"A\nLD_PRELOAD": "c"}},
        {"env": {"A": "b\0LD_PRELOAD=/x"}},
        {"env": {"A": ["b"]}},
        {"command": ["run\0--privileged"]},
        {"memory": "/etc"},
        {"gpus": "all"},
        {"pids": -1},
        {"memory_gb": 1e300},
    ],
    ids=str,
)
def test_at_24_a_value_that_says_more_than_its_key_may_is_refused(
    tmp_path: Path, keys: dict[str, Any]
) -> None:
    stream = read_stream(stream_folder(tmp_path, **keys))
    assert not stream.is_good
    [key] = keys
    assert any(key in str(problem) for problem in stream.problems)


def test_at_24_a_link_among_the_models_shows_nothing_of_this_machine(tmp_path: Path) -> None:
    folder = stream_folder(tmp_path, models="models", trusted=True)
    (folder / "models").symlink_to("/")
    stream = read_stream(folder)
    why = why_no_models(stream)
    assert models_folder(stream) is None
    assert why is not None
    assert "leads out of" in why.sentence
    (folder / "models").unlink()
    (folder / "real").mkdir()
    (folder / "models").symlink_to("real")
    assert models_folder(stream) == (folder / "real").resolve()
    assert why_no_models(stream) is None


def test_at_24_the_engine_is_asked_by_the_images_id(
    tmp_path: Path, shipped_images: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a tag means is looked up once: another image under it meanwhile is not run."""
    settings = Settings(home=tmp_path)
    shop = Workshop(settings)
    shop.layout.make()
    stream = shop.stream(
        "echo", {"image": "brookbox/echo:1.0.0", "command": ["python3", "-c", "print('ran')"]}
    )
    executor = ContainerExecutor(settings)
    ended = executor.run(shop.run_of(executor, stream), _Bystander())
    assert (ended.how, ended.exit_code) == ("exited", 0), ended
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", ended.image_id)


class _Bystander:
    def is_cancelled(self) -> bool:
        return False

    def is_stopping(self) -> bool:
        return False


# Each would leave a file named `pwned` if a shell saw it.
WORDS = (
    "$(touch pwned)", "`touch pwned`", ";touch pwned;", "|touch pwned", "a\ntouch pwned",
    "'; touch pwned #", '" && touch pwned #', "--help; touch pwned", "$IFS>pwned",
)  # fmt: skip


def test_at_08_no_value_of_a_sender_reaches_a_shell(bench: Bench) -> None:
    bench.stream("`touch pwned`", QUICK, name="$(touch pwned)", env={"A": "$(touch pwned)"})
    bench.start("dispatcher")
    bench.start("worker")
    for word in WORDS:
        study = ct_study(1)
        for ds in study:
            ds.PatientName = ds.PatientID = ds.StudyDescription = word.replace("\n", " ")
            ds.StudyID = ds.AccessionNumber = word[:16].replace("\n", " ")
        bench.send_study(study, "`touch pwned`")
    bench.wait_for_jobs(len(WORDS), "succeeded", seconds=90)
    for one in bench.jobs():
        [result] = bench.results(one.id)
        kept = pydicom.dcmread(bench.layout.root / result.path)
        assert kept.StudyDescription in {word.replace("\n", " ") for word in WORDS}
    places = (bench.home, CHECKOUT, Path.cwd(), Path("/tmp"), Path.home(), Path("/"))
    assert not [place for place in places if (place / "pwned").exists()]
    assert not list(bench.home.rglob("pwned"))
