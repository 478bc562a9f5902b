"""What a container is given, as the engine is told it; no engine is needed to see this."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.settings import Settings
from appliance.streams.catalog import Stream
from appliance.streams.limits import limits_of
from appliance.worker.executor import Run
from appliance.worker.profile import Ground, Place, User, container_config, helper_config
from tests.kit.runs import Workshop, job

GROUND = Ground(
    image_id="sha256:1",
    volumes=("/data", "/output"),
    user=User(65534, 65534, groups=(0,)),
    places=(Place(Path("/j/OUTPUT"), "/output", read_only=False),),
    cpus_here=2,
    is_remapped=False,
    labels={"brookbox.job": "1"},
)


def test_our_own_contract_is_shut_in(workshop: Workshop) -> None:
    stream = workshop.stream("s", {"image": "a:1", "command": ["python3", "run.py"], "cpus": 8})
    config = _config(workshop.settings, stream)
    host = config["HostConfig"]
    assert config["Image"] == "sha256:1" and config["User"] == "65534:65534"
    assert (config["Entrypoint"], config["Cmd"]) == (["python3"], ["run.py"])
    assert host["ReadonlyRootfs"] and host["NetworkMode"] == "none" and host["CapAdd"] == []
    assert host["CapDrop"] == ["ALL"] and host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Memory"] == host["MemorySwap"] == 4 * 1024**3
    assert host["NanoCpus"] == 2_000_000_000  # no more than the machine has
    assert host["LogConfig"] == {"Type": "none"} and "DeviceRequests" not in host
    assert set(host["Tmpfs"]) == {"/tmp", "/home/brookbox", "/data"}


def test_a_magickbox_image_is_root_in_its_own_files_and_nothing_more(workshop: Workshop) -> None:
    config = _config(workshop.settings, workshop.stream("s", {"image": "a:1"}))
    host = config["HostConfig"]
    assert config["User"] == "0:0" and not host["ReadonlyRootfs"]
    assert config["Entrypoint"] + config["Cmd"] == [
        "/bin/bash", "-l", "-c", "/root/work.sh /input /output",
    ]  # fmt: skip
    assert host["CapDrop"] == ["ALL"] and host["NetworkMode"] == "none"
    assert not {"SYS_ADMIN", "NET_RAW", "MKNOD", "SYS_CHROOT", "SETPCAP"} & set(host["CapAdd"])


def test_every_container_can_be_found_when_its_worker_died(workshop: Workshop) -> None:
    config = _config(workshop.settings, workshop.stream("s", {"image": "a:1"}))
    helper = helper_config(GROUND, (Path("/j/OUTPUT"),))
    assert config["Labels"] == helper["Labels"] == {"brookbox.job": "1"}


def test_what_a_stream_asks_for_is_granted_by_its_keys_alone(workshop: Workshop) -> None:
    keys = {"image": "a:1", "command": ["x"], "network": True, "gpus": 1, "env": {"A": "b"}}
    stream = workshop.stream("s", keys)
    config = _config(workshop.settings, stream, devices=("GPU-1",))
    host = config["HostConfig"]
    assert host["NetworkMode"] == "bridge" and "A=b" in config["Env"]
    assert host["DeviceRequests"][0]["DeviceIDs"] == ["GPU-1"]
    remapped = replace(GROUND, is_remapped=True)
    run = _run(workshop.settings, stream, ())
    assert container_config(run, remapped)["HostConfig"]["UsernsMode"] == "host"


def _config(settings: Settings, stream: Stream, devices: tuple[str, ...] = ()) -> dict[str, Any]:
    return container_config(_run(settings, stream, devices), GROUND)


def _run(settings: Settings, stream: Stream, devices: tuple[str, ...]) -> Run:
    return Run(
        job=job(1, stream.ae_title),
        stream=stream,
        folder=Workshop(settings).layout.job(1),
        limits=limits_of(stream.good_info, settings),
        devices=devices,
        worker="w/1/1",
    )
