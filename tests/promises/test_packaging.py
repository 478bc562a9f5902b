"""What the packaging says of itself: its units, its files, its virtual machine, its checks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import settings_file
from tests.kit import require

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGING = CHECKOUT / "packaging"
SYSTEMD = PACKAGING / "systemd"
UNITS = ("brookbox.service", "brookbox-worker.service")
SCRIPTS = sorted(str(path.relative_to(CHECKOUT)) for path in PACKAGING.rglob("*.sh"))


def run(*words: str | Path, wanted: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in words], text=True, stdout=subprocess.PIPE, cwd=CHECKOUT,
        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == wanted, done.stdout
    return done.stdout


@pytest.fixture
def laid(tmp_path: Path) -> Path:
    """A root that the files were laid down in."""
    run(SYSTEMD / "install.sh", DESTDIR=str(tmp_path))
    return tmp_path


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(p.relative_to(root)): (p.stat().st_mode, p.read_bytes()) for p in files}


def unit(name: str) -> dict[str, list[str]]:
    """Read a unit: each key with all its values."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / name).read_text().splitlines():
        if match := re.fullmatch(r"([A-Z]\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


# -- scripts ----------------------------------------------------------------------------------


def test_every_script_parses_and_shellcheck_finds_nothing() -> None:
    shellcheck = require.program("shellcheck", "shellcheck")
    run(shellcheck, "--external-sources", "--severity=warning", *SCRIPTS, SYSTEMD / "brookbox")
    for script in SCRIPTS:
        run("bash", "-n", script)


def test_every_set_up_finds_and_installs_packages_in_the_same_way() -> None:
    for name in ("setup.sh", "systemd/install.sh", "bundle/install.sh", "bundle/make.sh"):
        assert "machine.sh" in (PACKAGING / name).read_text(), name
    assert "systemd/install.sh" in (PACKAGING / "vagrant/provision.sh").read_text()


# -- units ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_verified_clean(name: str, tmp_path: Path) -> None:
    analyze = require.program("systemd-analyze", "systemd")
    place = tmp_path / "etc/systemd/system"
    # The units of the system that ours name, and a program where ours is to be.
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    for program in ("opt/brookbox/venv/bin/brookbox", "bin/sh"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    place.mkdir(parents=True)
    shutil.copy(SYSTEMD / name, place)
    said = run(analyze, "verify", "--man=no", f"--root={tmp_path}", place / name)
    assert name not in said, said


@pytest.mark.parametrize("name", UNITS)
def test_the_exposure_of_a_unit_is_under_4(name: str) -> None:
    analyze = require.program("systemd-analyze", "systemd")
    said = run(analyze, "security", "--offline=yes", "--no-pager", SYSTEMD / name)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found and float(found[1]) < 4, said[-500:]


@pytest.mark.parametrize("name", UNITS)
def test_what_a_unit_names_is_what_is_installed(name: str, laid: Path) -> None:
    facts = unit(name)
    keep = Path(facts["WorkingDirectory"][0])
    assert facts["ReadWritePaths"] == facts["RequiresMountsFor"] == [str(keep)]
    settings = SYSTEMD / f"{name.removesuffix('.service')}.yaml"
    loaded = settings_file.load(settings, keep, {})
    for path in (loaded.data_root, loaded.streams_folder):
        assert path.is_relative_to(keep)
    folders = [line.split() for line in (SYSTEMD / "tmpfiles.conf").read_text().splitlines()]
    modes = {words[1]: words[2] for words in folders if words[0] == "d"}
    assert modes[str(loaded.data_root)] == "0700"
    assert f"u {facts['User'][0]} " in (SYSTEMD / "sysusers.conf").read_text()
    environment = " ".join(facts["Environment"])
    assert f"BROOKBOX_HOME={keep} " in environment
    assert "BROOKBOX_CONFIG=/etc/brookbox/brookbox.yaml" in environment
    assert (laid / "etc/brookbox/brookbox.yaml").exists()
    assert facts["ExecStart"][0].startswith("/opt/brookbox/venv/bin/brookbox ")


def test_systemd_waits_longer_than_the_node_takes_to_stop() -> None:
    from appliance.cli import keeper, supervisord_conf
    from appliance.worker import service

    node, worker = unit("brookbox.service"), unit("brookbox-worker.service")
    assert int(node["TimeoutStopSec"][0]) > keeper._STOP_SECONDS > supervisord_conf._STOP_SECONDS
    assert int(worker["TimeoutStopSec"][0]) > service._STOP_SECONDS


def test_the_page_of_an_installed_node_is_on_loopback_and_settings_stay_roots() -> None:
    loaded = settings_file.load(SYSTEMD / "brookbox.yaml", Path("/var/lib/brookbox"), {})
    assert loaded.web.address == "127.0.0.1"
    # The page edits the routing rules, so they must stand where the node may write.
    assert loaded.routing_file.is_relative_to("/var/lib/brookbox")


# -- install.sh and uninstall.sh --------------------------------------------------------------


def test_installing_twice_changes_nothing_and_leaves_edited_settings(laid: Path) -> None:
    before = tree(laid)
    run(SYSTEMD / "install.sh", DESTDIR=str(laid))
    assert tree(laid) == before
    settings = laid / "etc/brookbox/brookbox.yaml"
    settings.write_text("node: {ae_title: MINE}\n")
    run(SYSTEMD / "install.sh", DESTDIR=str(laid))
    assert settings.read_text() == "node: {ae_title: MINE}\n"
    assert not list(laid.rglob("*.new"))


def test_uninstalling_leaves_settings_and_data_and_purging_asks(laid: Path) -> None:
    study = laid / "var/lib/brookbox/data/studies/one.dcm"
    study.parent.mkdir(parents=True)
    study.write_bytes(b"DICM")
    uninstall = SYSTEMD / "uninstall.sh"
    said = run(uninstall, "--purge", wanted=2, DESTDIR=str(laid))
    assert "nobody can be asked" in said and (laid / "opt/brookbox").exists()
    for _ in range(2):
        run(uninstall, DESTDIR=str(laid))
        left = {"etc/brookbox/brookbox.yaml", "var/lib/brookbox/data/studies/one.dcm"}
        assert set(tree(laid)) == left
    run(uninstall, "--purge", "--yes", DESTDIR=str(laid))
    assert not tree(laid)


def test_a_worker_is_not_installed_over_a_node(laid: Path) -> None:
    said = run(SYSTEMD / "install.sh", "--worker", wanted=1, DESTDIR=str(laid))
    assert "brookbox is installed here already" in said
    run(SYSTEMD / "uninstall.sh", DESTDIR=str(laid))
    (laid / "etc/brookbox/brookbox.yaml").unlink()
    run(SYSTEMD / "install.sh", "--worker", DESTDIR=str(laid))
    assert "postgresql" in (laid / "etc/brookbox/brookbox.yaml").read_text()


# -- the virtual machine ----------------------------------------------------------------------

# Reads a Vagrantfile as vagrant would, and writes what it says.
RECORDER = """
require 'json'
class Told
  attr_reader :said
  def initialize; @said = []; end
  def method_missing(name, *words, **more)
    @said << [name.to_s, words, more]
    yield(*[self] * 2) if block_given?
    self
  end
  def respond_to_missing?(*) = true
end
TOLD = Told.new
module Vagrant
  def self.configure(_version) = yield(TOLD)
end
load ARGV[0]
puts JSON.generate(TOLD.said)
"""


def told_by_vagrantfile(**environment: str) -> list[tuple[str, list[str], dict[str, object]]]:
    ruby = require.program("ruby", "ruby")
    said = run(ruby, "-e", RECORDER, PACKAGING / "vagrant/Vagrantfile", **environment)
    return [(name, words, more) for name, words, more in json.loads(said)]


def test_the_virtual_machine_shows_dicom_to_all_and_the_page_to_its_host() -> None:
    told = told_by_vagrantfile(BRIDGE="")
    ports = {more["host"]: more for name, words, more in told if words == ["forwarded_port"]}
    assert {host: facts["guest"] for host, facts in ports.items()} == {
        11113: 11113, 2813: 2813, 4321: 22,
    }  # fmt: skip
    assert ports[2813]["host_ip"] == ports[4321]["host_ip"] == "127.0.0.1"
    assert ports[11113]["host_ip"] == "0.0.0.0"
    assert ports[4321]["id"] == "ssh"
    disks = [more for name, words, more in told if name == "disk"]
    assert [disk["name"] for disk in disks] == ["brookbox-data"]
    assert not [words for name, words, more in told if words == ["public_network"]]
    provisions = [more for name, words, more in told if name == "provision"]
    assert provisions == [{"path": "provision.sh", "args": ["nat"], "run": "always"}]


def test_a_bridge_is_offered_and_then_senders_have_addresses_of_their_own() -> None:
    told = told_by_vagrantfile(BRIDGE="eno1")
    assert [more for name, words, more in told if words == ["public_network"]] == [
        {"bridge": "eno1"}
    ]
    assert [more["args"] for name, words, more in told if name == "provision"] == [["bridged"]]


def test_in_the_guest_the_page_is_everywhere_behind_a_key_and_addresses_do_not_count() -> None:
    from web.access_key import needs_key

    file = PACKAGING / "vagrant/brookbox.yaml"
    loaded = settings_file.load(file, Path("/var/lib/brookbox"), {})
    assert loaded.web.address == "0.0.0.0" and needs_key(loaded)
    assert loaded.receiver.behind_nat
    plain = settings_file.load(SYSTEMD / "brookbox.yaml", Path("/var/lib/brookbox"), {})
    assert (loaded.data_root, loaded.streams_folder, loaded.routing_file) == (
        plain.data_root, plain.streams_folder, plain.routing_file,
    )  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A small disk that can grow, and the file behind it."""
    require.root()
    require.program("mkfs.ext4", "e2fsprogs")
    file = tmp_path / "disk"
    with file.open("wb") as blank:
        blank.truncate(64 << 20)
    done = subprocess.run(
        ["losetup", "--find", "--show", file], text=True, capture_output=True, timeout=60
    )
    if done.returncode != 0:
        require.missing("a loop device", "load the kernel's module loop")
    device = done.stdout.strip()
    yield device, file
    run("losetup", "--detach", device)


GROWS = """
use() { "$SCRIPT" "$DEVICE" "$PLACE" "$FSTAB"; stat --file-system --format 'blocks %b' "$PLACE"; }
set -e
use
echo kept >"$PLACE/study"
echo again; use
umount "$PLACE"
truncate --size 128M "$FILE"
losetup --set-capacity "$DEVICE"
echo grown; use
cat "$PLACE/study"
"""


def test_the_data_disk_is_made_once_kept_and_grown(disk: tuple[str, Path], tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text("")
    # In mounts of its own: what other tests start meanwhile would keep the disk in use.
    said = run(
        "unshare", "--mount", "--propagation", "private", "bash", "-c", GROWS,
        SCRIPT=str(PACKAGING / "vagrant/data-disk.sh"), DEVICE=disk[0], FILE=str(disk[1]),
        PLACE=str(tmp_path / "mnt"), FSTAB=str(fstab),
    )  # fmt: skip
    assert said.count("making a file system") == 1 and said.endswith("kept\n"), said
    first, second, third = map(int, re.findall(r"blocks (\d+)", said))
    assert first == second and third > 1.5 * first
    lines = fstab.read_text().splitlines()
    assert len(lines) == 1 and "x-systemd.growfs" in lines[0] and "nofail" in lines[0]


def test_a_disk_that_holds_anything_is_never_formatted(
    disk: tuple[str, Path], tmp_path: Path
) -> None:
    device, _ = disk
    place, fstab = tmp_path / "mnt", tmp_path / "fstab"
    fstab.write_text("")
    run("mkfs.ext4", "-q", "-L", "other", device)
    script = PACKAGING / "vagrant/data-disk.sh"
    assert "holds something that is not ours" in run(script, device, place, fstab, wanted=1)
    assert run("blkid", "-p", "-o", "value", "-s", "LABEL", device).strip() == "other"
    place.mkdir()
    (place / "study").write_text("here before the disk")
    assert "would hide" in run(script, device, place, fstab, wanted=1)


# -- the bundle -------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of nothing but its installer, for a release that no machine has."""
    shutil.copy(PACKAGING / "bundle/install.sh", tmp_path)
    (tmp_path / "packaging").mkdir()
    shutil.copy(PACKAGING / "machine.sh", tmp_path / "packaging")
    (tmp_path / "bundle.conf").write_text("release='plan 9'\nmachine='vax'\n")
    sums = run("bash", "-c", f"cd {tmp_path} && find . -type f -print0 | xargs -0 sha256sum")
    (tmp_path / "SHA256SUMS").write_text(sums)
    return tmp_path


def test_a_bundle_for_another_machine_is_not_installed(bundle: Path) -> None:
    assert "this bundle is for plan 9 on vax" in run(bundle / "install.sh", wanted=1)


def test_a_bundle_that_was_changed_is_not_installed(bundle: Path) -> None:
    with (bundle / "packaging/machine.sh").open("a") as file:
        file.write("echo evil\n")
    said = run(bundle / "install.sh", wanted=1)
    assert "damaged or was changed" in said and "evil" not in said


def test_a_file_that_was_put_into_a_bundle_is_found(bundle: Path) -> None:
    (bundle / "debs").mkdir()
    (bundle / "debs/evil.deb").write_text("evil")
    assert "not of the bundle: ./debs/evil.deb" in run(bundle / "install.sh", wanted=1)
