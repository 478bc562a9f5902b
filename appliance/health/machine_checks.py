"""Look at the machine: data_root, free space, ports, clocks.  Works with the node stopped too."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import psutil

from appliance.amounts import of_disk
from appliance.disk import space
from appliance.disk.layout import Layout
from appliance.disk.space import Space
from appliance.health import answers
from appliance.health.finding import Finding, ok, warn, wrong
from appliance.settings import Settings


def check_data_root(settings: Settings) -> Iterator[Finding]:
    """Look at the folders' modes and owners, and whether this user may write there."""
    about, root = "data_root", settings.data_root
    try:
        facts = root.stat()
    except FileNotFoundError:
        yield warn(about, f"{root} is not there yet.", "brookbox up (it makes it)")
        return
    except OSError as error:
        yield wrong(about, f"{root} cannot be looked at: {error.strerror}.", f"ls -ld {root}")
        return
    if facts.st_mode & 0o077:
        mode = f"{facts.st_mode & 0o777:04o}"
        sentence = f"{root} has mode {mode}: others on this machine may read studies."
        yield wrong(about, sentence, f"chmod 700 {root}")
    problems = list(_unusable(Layout(root)))
    yield from problems
    if not problems and not facts.st_mode & 0o077:
        yield ok(about, f"{root} is private and may be written.")


def check_space(settings: Settings) -> Iterator[Finding]:
    """Compare what is free with what receiver and housekeeper are told to leave free."""
    about = "space"
    place = settings.data_root
    while not place.exists():
        place = place.parent
    volume = space.measure(place)
    free, size = of_disk(volume.free_bytes), of_disk(volume.total_bytes)
    told = f"{free} of {size} are free on the volume of {place}"
    if volume.inodes:
        told += f", {100 * volume.free_inodes / volume.inodes:.0f} % of its inodes"
    refused = list(refusals(settings, volume))
    for sentence, remedy in refused:
        yield wrong(about, f"{told}. {sentence}", remedy)
    if refused:
        return
    if volume.used_percent > settings.housekeeper.high_percent:
        sentence = f"{told}: the oldest studies are removed early."
        yield warn(about, sentence, "make room, or lower housekeeper.inputs_days")
    else:
        yield ok(about, f"{told}.")


def refusals(settings: Settings, volume: Space) -> Iterator[tuple[str, str]]:
    """Say why the disk takes no studies just now, and what to do; nothing when it takes them."""
    rules = settings.receiver
    if why := space.degraded(Layout(settings.data_root)):
        sentence = f"A sync failed on the volume, so nothing is received: {why}"
        yield sentence, "check the disk (dmesg), then stop and start the node"
    if space.is_short(volume, rules.reserve_gb, rules.reserve_percent):
        reserve = space.reserve_bytes(volume, rules.reserve_gb, rules.reserve_percent)
        short = f"Less than the reserve of {of_disk(reserve)} is free"
        if volume.free_bytes >= reserve:
            short = "Hardly any inodes are free"
        remedy = (
            f"make room there (du -sh {settings.data_root}/*), give it a larger disk, or lower "
            "receiver.reserve_gb and receiver.reserve_percent"
        )
        yield f"{short}, so new associations are refused (2,3,1).", remedy


def check_ports(
    settings: Settings, places: list[tuple[str, str, int]], runs: bool
) -> Iterator[Finding]:
    """Look who listens where the node does, or is to; `runs` says whether the node does."""
    asks = {
        "receiver": answers.receiver_answers,
        "web": answers.web_answers,
        "gearmand": answers.gearmand_answers,
    }
    for name, address, port in places:
        about, where = f"port of {name}", f"{address}:{port}"
        if runs:
            if why := asks[name](settings, 5.0):
                remedy = f"read {settings.data_root / 'logs' / name}.log, then: brookbox up"
                yield wrong(about, f"{name} does not answer: {why}{taken_by(port)}.", remedy)
            else:
                yield ok(about, f"{name} answers at {where}.")
        elif why := cannot_listen(address, port):
            setting = f"{name}.port" if name != "gearmand" else "queue.servers"
            remedy = f"stop what listens there, or choose another port: {setting}"
            yield wrong(about, f"{where} cannot be used: {why}{taken_by(port)}.", remedy)
        else:
            yield ok(about, f"{where} is free.")


def check_programs(settings: Settings) -> Iterator[Finding]:
    """Look for the programs of the machine that the node starts."""
    wanted = [("setpriv", "apt install util-linux")]
    if settings.queue.start_gearmand:
        wanted.append(("gearmand", "apt install gearman-job-server"))
    for name, remedy in wanted:
        if found := find_program(name):
            yield ok(name, f"{found} is there.")
        else:
            yield wrong(name, f"{name} is not installed.", remedy)


def check_clocks(newest: datetime | None, stopped: str, now: datetime) -> Iterator[Finding]:
    """Compare the wall clock with the newest time in the index.

    `stopped` is the housekeeper's sentence when it removes nothing because of a jump.
    """
    about = "clock"
    if stopped:
        yield wrong(about, stopped, "check the date, then: brookbox housekeeper-confirm")
    if newest is not None and newest - now > timedelta(seconds=60):
        ahead = (newest - now).total_seconds()
        sentence = f"The clock is {ahead:.0f} s behind the newest entry of the index."
        yield wrong(about, sentence, "set the clock: timedatectl set-ntp true")
    elif not stopped:
        yield ok(about, f"The clock says {now:%Y-%m-%d %H:%M:%S} UTC; up {_uptime()}.")


def find_program(name: str) -> str | None:
    """Find a program, also where only root's PATH looks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def cannot_listen(address: str, port: int) -> str:
    """Say why nobody can begin to listen there; "" when it is free."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the node's own listeners do: connections that have just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return str(error.strerror or error)
    return ""


def taken_by(port: int) -> str:
    """Name who listens on a port, as far as this user may see it; "" when unknown."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            here = getattr(connection.laddr, "port", None)  # () before it is bound
            if connection.status == psutil.CONN_LISTEN and here == port and connection.pid:
                return f" ({psutil.Process(connection.pid).name()}, pid {connection.pid}, has it)"
    return ""


def _unusable(layout: Layout) -> Iterator[Finding]:
    """Find folders and files of ours that this user may not write."""
    folders = (
        layout.root, layout.incoming, layout.studies, layout.jobs, layout.quarantine,
        layout.run, layout.logs, layout.history, layout.backups,
    )  # fmt: skip
    for path in (*folders, *layout.root.glob("index.sqlite3*")):
        if path.exists() and not os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0)):
            owner, me = _user(path.stat().st_uid), _user(os.geteuid())
            sentence = f"{path} belongs to {owner} and {me} may not write it."
            remedy = f"run the node as {owner}, or: chown -R {me} {layout.root}; chmod u+rwX {path}"
            yield wrong("data_root", sentence, remedy)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _uptime() -> str:
    hours = time.clock_gettime(time.CLOCK_BOOTTIME) / 3600
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"
