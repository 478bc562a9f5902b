"""supervisord's configuration, made from the settings.

`render` is pure: `brookbox up` writes its answer to data_root/run, and
`config/supervisord.conf` is its answer for the defaults.  The node's own
processes stand in one group, so that a stop reaches all of them at once;
gearmand, which they lean on, stops after them.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from appliance.disk.layout import Layout
from appliance.health.supervisor import GROUP, socket_address
from appliance.settings import Settings

PROGRAMS = ("web", "receiver", "dispatcher", "worker", "router", "housekeeper")

# Reception ends at most 30 s after it was asked to, a container 10 s after.
_STOP_SECONDS = 40
# Each pause before another start is a second longer than the one before; never give up.
_START_TRIES = 1_000_000


@dataclass(frozen=True, slots=True)
class Machine:
    """What of this machine stands in the configuration."""

    python: str
    gearmand: str
    setpriv: str
    is_root: bool = False


def render(settings: Settings, machine: Machine) -> str:
    """Give the text of supervisord.conf."""
    sections = [_daemon(settings, machine)]
    if settings.queue.start_gearmand:
        sections.append(_gearmand(settings, machine))
    sections += [_program(name, settings, machine) for name in PROGRAMS]
    sections.append(f"[group:{GROUP}]\nprograms={','.join(PROGRAMS)}\npriority=20\n")
    return "\n".join(sections)


def sample() -> str:
    """Give config/supervisord.conf: what the defaults make of it in /var/lib/brookbox."""
    home = Path("/var/lib/brookbox")
    machine = Machine("/usr/bin/python3", "/usr/sbin/gearmand", "/usr/bin/setpriv")
    return render(Settings(home=home), machine)


def gearmand_port(settings: Settings) -> int:
    """Give the port of the gearmand that the node starts: that of the first server."""
    return int(settings.queue.servers[0].rpartition(":")[2])


def _daemon(settings: Settings, machine: Machine) -> str:
    layout = Layout(settings.data_root)
    lines = [
        "; Made by `brookbox up` from the settings at each start: changes here are lost.",
        "[unix_http_server]",
        f"file={_plain(socket_address(layout.run))}",
        "chmod=0700",
        "",
        "[supervisord]",
        "nodaemon=true",
        "silent=true",
        f"logfile={_plain(str(layout.logs / 'supervisord.log'))}",
        "logfile_maxbytes=20MB",
        "logfile_backups=5",
        f"pidfile={_plain(str(layout.run / 'supervisord.pid'))}",
        'environment=BROOKBOX_SUPERVISED="1"',
    ]
    if machine.is_root:
        lines.append("user=root")
    return "\n".join(
        [
            *lines,
            "",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            "",
            "[supervisorctl]",
            f"serverurl=unix://{_plain(socket_address(layout.run))}",
            "",
        ]
    )


def _gearmand(settings: Settings, machine: Machine) -> str:
    log = Layout(settings.data_root).logs / "gearmand.log"
    # gearmand does not ask to die with its parent; setpriv asks for it.
    command = [machine.setpriv, "--pdeathsig", "TERM", machine.gearmand]
    command += ["-t", "1", "-L", "127.0.0.1", "-p", str(gearmand_port(settings))]
    command += ["-l", "stderr", "--verbose", "WARNING"]
    if machine.is_root:
        command += ["-u", "root"]  # it refuses to run as root unless it is told to
    return _section("gearmand", command, settings.home, log, priority=10)


def _program(name: str, settings: Settings, machine: Machine) -> str:
    command = [machine.python, "-m", "appliance.cli", "--home", str(settings.home)]
    if settings.source:
        command += ["--config", str(settings.source)]
    log = Layout(settings.data_root).logs / f"{name}.log"
    return _section(name, [*command, name], settings.home, log, priority=20)


def _section(name: str, command: list[str], home: Path, log: Path, priority: int) -> str:
    return "\n".join(
        [
            f"[program:{name}]",
            f"command={_plain(shlex.join(command))}",
            f"directory={_plain(str(home))}",
            f"priority={priority}",
            "autostart=true",
            "autorestart=true",
            "startsecs=1",
            f"startretries={_START_TRIES}",
            "stopsignal=TERM",
            f"stopwaitsecs={_STOP_SECONDS}",
            "killasgroup=true",
            "redirect_stderr=true",
            # supervisord expands the log files of programs twice.
            f"stdout_logfile={_plain(_plain(str(log)))}",
            "stdout_logfile_maxbytes=20MB",
            "stdout_logfile_backups=5",
            "",
        ]
    )


def this_machine(gearmand: str, setpriv: str, python: str) -> Machine:
    """Say what stands in the configuration on this machine."""
    return Machine(python, gearmand, setpriv, is_root=os.geteuid() == 0)


def _plain(text: str) -> str:
    # supervisord expands %(name)s everywhere.
    return text.replace("%", "%%")
