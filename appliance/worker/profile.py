"""What a container is given, as the engine's API takes it.  Pure: nothing is asked or done here.

Our own contract gets a read-only root, no capability, no network, the worker's own
user and private memory file systems.  A MagickBox image expects to be root in a file
system of its own: it gets that, a few capabilities inside, and nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.streams.info import StreamInfo
from appliance.worker.executor import Run

HOME = "/home/brookbox"
WORK_SH = "/root/work.sh"

# What a root script needs in its own files and in /input and /output, whoever owns
# them; to run parts of itself as another user; and to end those again.  Not among them:
# raw sockets, device nodes, chroot, file capabilities, ports below 1024.
_ROOT_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]

# Programs with loaders and compilers of their own (PyTorch, Numba, MATLAB, PyInstaller)
# run what they put into /tmp and HOME.  noexec would break them and stop nobody: an
# image brings its own programs anyway.
_TMPFS = "rw,exec,nosuid,nodev"

_OPEN_FILES = 16384


@dataclass(frozen=True, slots=True)
class User:
    """Whom a container's program runs as; `groups` let nobody read what the worker may."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder of this machine that the container sees."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Ground:
    """What the machine and the image bring to a run."""

    image_id: str
    volumes: tuple[str, ...]  # paths that the image wants to be written to elsewhere
    user: User
    places: tuple[Place, ...]
    cpus_here: float
    is_remapped: bool
    labels: Mapping[str, str]


def container_config(run: Run, ground: Ground) -> dict[str, Any]:
    """Describe the container of a run, for the engine's `POST /containers/create`."""
    info = run.stream.good_info
    is_magickbox = run.stream.contract == "magickbox"
    program = magickbox_command() if is_magickbox else list(info.command)
    config: dict[str, Any] = {
        "Image": ground.image_id,
        # As entry point, since an image's own one must not come before it.
        "Entrypoint": program[:1],
        "Cmd": program[1:],
        "User": "0:0" if is_magickbox else str(ground.user),
        "Env": [f"{name}={value}" for name, value in _environment(info, is_magickbox).items()],
        "Labels": dict(ground.labels),
        "Hostname": "brookbox",
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "AttachStdout": True,
        "AttachStderr": True,
    }
    config["HostConfig"] = _host_config(run, ground, is_magickbox)
    return config


def magickbox_command() -> list[str]:
    """How MagickBox called the work.sh of an image: by a login shell."""
    return ["/bin/bash", "-l", "-c", f"{WORK_SH} /input /output"]


def helper_config(ground: Ground, folders: tuple[Path, ...]) -> dict[str, Any]:
    """Describe the container that gives files back to the worker after a root container.

    DAC_OVERRIDE is there for folders that the stream gave to a third user.
    """
    places = [Place(folder, f"/back/{i}", read_only=False) for i, folder in enumerate(folders)]
    return {
        "Image": ground.image_id,
        "Entrypoint": ["chown"],
        "Cmd": ["-R", "-h", str(ground.user), *(place.target for place in places)],
        "User": "0:0",
        "Labels": dict(ground.labels),
        "HostConfig": {
            **_shut_in(),
            "CapAdd": ["CHOWN", "DAC_OVERRIDE"],
            "ReadonlyRootfs": True,
            "NetworkMode": "none",
            "Memory": 256 * 1024**2,
            "PidsLimit": 16,
            "Mounts": _mounts(tuple(places)),
        },
    }


def _environment(info: StreamInfo, is_magickbox: bool) -> dict[str, str]:
    environment = {"BROOKBOX_INPUT": "/input", "BROOKBOX_OUTPUT": "/output", "BROOKBOX_JOB": "/job"}
    if not is_magickbox:
        # The user has no line in the image's /etc/passwd: getpass and friends ask here.
        environment |= {"HOME": HOME, "USER": "brookbox", "LOGNAME": "brookbox"}
    return environment | info.env


def _shut_in() -> dict[str, Any]:
    return {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "IpcMode": "private",
        "Init": True,
        # The log is read while it is printed; a second copy would only hold it twice.
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
    }


def _host_config(run: Run, ground: Ground, is_magickbox: bool) -> dict[str, Any]:
    limits = run.limits
    host: dict[str, Any] = {
        **_shut_in(),
        "NetworkMode": "bridge" if run.stream.good_info.network else "none",
        "ReadonlyRootfs": not is_magickbox,
        "CapAdd": _ROOT_CAPABILITIES if is_magickbox else [],
        "GroupAdd": [] if is_magickbox else [str(group) for group in ground.user.groups],
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,  # memory and swap together: no swap
        "NanoCpus": int(min(limits.cpus, ground.cpus_here) * 1e9),
        "PidsLimit": limits.pids,
        "ShmSize": limits.shm_mb * 1024**2,
        "OomScoreAdj": 500,  # when the whole machine is short, a job goes before the node
        "Ulimits": [
            {"Name": "fsize", "Soft": limits.output_bytes, "Hard": limits.output_bytes},
            {"Name": "nofile", "Soft": _OPEN_FILES, "Hard": _OPEN_FILES},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "Tmpfs": _memory_file_systems(run, ground, is_magickbox),
        "Mounts": _mounts(ground.places),
    }
    if ground.is_remapped:
        # The ids inside must be those of the files outside.
        host["UsernsMode"] = "host"
    if run.devices:
        host["DeviceRequests"] = [
            {"DeviceIDs": list(run.devices), "Capabilities": [["gpu"]], "Driver": ""}
        ]
    return host


def _memory_file_systems(run: Run, ground: Ground, is_magickbox: bool) -> dict[str, str]:
    """Give /tmp and HOME, and whatever the image wants to write to the disk behind our back."""
    size, user = f"size={run.limits.tmp_mb}m", ground.user
    taken = {place.target for place in ground.places} | {"/tmp", HOME}
    volumes = {path: f"{_TMPFS},{size},mode=1777" for path in ground.volumes if path not in taken}
    if is_magickbox:
        return volumes
    home = f"{_TMPFS},{size},mode=0700,uid={user.uid},gid={user.gid}"
    return volumes | {"/tmp": f"{_TMPFS},{size},mode=1777", HOME: home}


def _mounts(places: tuple[Place, ...]) -> list[dict[str, Any]]:
    """Bind mounts of a kind that refuses a source that is not there."""
    return [
        {
            "Type": "bind",
            "Source": str(place.source),
            "Target": place.target,
            "ReadOnly": place.read_only,
        }
        for place in places
    ]
