"""The installers in a fresh Debian 12: each twice, and the node that they leave behind works."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import fresh
from tests.kit.fresh import CHECKOUT, Machine, docker, machine
from tests.kit.waiting import wait_for

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
INSTALL = "/brookbox/packaging/systemd/install.sh"
PAGE = (
    "python3 -c 'import urllib.request as u; "
    'print(u.urlopen("http://127.0.0.1:2813/", timeout=20).status)\''
)


@pytest.fixture(scope="module")
def committed() -> Iterator[list[str]]:
    """Images that a test made of its containers."""
    names: list[str] = []
    yield names
    for name in names:
        subprocess.run(["docker", "rmi", "--force", name], capture_output=True, timeout=120)


def commit(one: Machine, name: str, names: list[str]) -> str:
    docker("commit", one.name, name, seconds=300)
    names.append(name)
    return name


def start_by_hand(one: Machine) -> None:
    one.start("brookbox up", "/up.log")
    wait_for(lambda: "Ctrl-C stops" in one.text("/up.log"), "the node is ready", 300)


def stop_by_hand(one: Machine) -> None:
    one.run(STOP)
    wait_for(lambda: not one.run(FOUND), "the node has stopped", 150)
    assert "Stopped." in one.text("/up.log")


# Without procps: the processes of the installed program.
FOUND = "grep -ls '[b]rookbox/venv/bin' /proc/[0-9]*/cmdline | cut -d/ -f3"
STOP = f"kill $({FOUND})"


def assert_answers(one: Machine) -> None:
    assert "answered the echo" in one.run("brookbox send echo BROOKBOX@127.0.0.1:11113")
    assert one.run(PAGE).strip().endswith(("200", "401"))


def test_the_installer_runs_twice_and_what_uninstall_leaves_is_gone_on_with(
    committed: list[str],
) -> None:
    with machine(fresh.minbase(), network="host") as one:
        said = one.run(INSTALL, seconds=900)
        assert "systemd does not run here" in said and "brookbox up" in said
        image = commit(one, "brookbox-test/installed:1", committed)
    # The second time it needs no network, since nothing is missing.
    with machine(image, network="none") as one:
        assert "installing" not in one.run(INSTALL)
        start_by_hand(one)
        assert_answers(one)
        assert "came back" in one.run("brookbox demo --seconds 280")
        assert "the node runs" in one.run("/opt/brookbox/share/uninstall.sh", wanted=1)
        stop_by_hand(one)
        one.run("/opt/brookbox/share/uninstall.sh")
        one.run("/brookbox/packaging/systemd/uninstall.sh")
        assert one.run("ls -d /opt/brookbox /usr/local/bin/brookbox", wanted=2)
        assert "index.sqlite3" in one.run("ls /var/lib/brookbox/data")
        image = commit(one, "brookbox-test/uninstalled:1", committed)
    with machine(image, network="host") as one:
        one.run(INSTALL, seconds=900)
        image = commit(one, "brookbox-test/installed:2", committed)
    with machine(image, network="none") as one:
        start_by_hand(one)
        assert_answers(one)
        assert "MONTAGE" in one.run("brookbox jobs list")


def test_the_unit_runs_under_systemd_and_stops_and_reloads(committed: list[str]) -> None:
    with machine(fresh.minbase_with_systemd(), network="host") as one:
        one.run(INSTALL, seconds=900)
        image = commit(one, "brookbox-test/installed:systemd", committed)
    with machine(image, network="none", boots=True) as one:
        assert "starting brookbox" in one.run(INSTALL)
        assert one.run("systemctl is-active brookbox").strip() == "active"
        assert_answers(one)
        assert "came back" in one.run("brookbox demo --seconds 280")
        assert one.run("systemctl is-enabled gearman-job-server || true").strip() == "masked"
        one.run("systemctl reload brookbox")
        one.run("echo 'receiver: {prot: 1}' >>/etc/brookbox/brookbox.yaml")
        one.run("systemctl reload brookbox", wanted=1)
        assert "receiver.prot is not a setting" in one.run("journalctl -u brookbox -o cat")
        one.run("sed -i '$d' /etc/brookbox/brookbox.yaml")
        # A node that is killed comes again by itself, whole.
        before = one.run("systemctl show -P MainPID brookbox")
        one.run("systemctl kill --kill-whom=main --signal=KILL brookbox")
        wait_for(
            lambda: one.run("systemctl show -P SubState brookbox").strip() == "running"
            and one.run("systemctl show -P MainPID brookbox") != before,
            "systemd started it again",
            300,
        )
        assert_answers(one)
        one.run("systemctl stop brookbox")
        assert one.run("systemctl show -P Result brookbox").strip() == "success"
        # A port below 1024 needs one capability, which the installer gives and takes.
        one.run("echo 'receiver: {port: 104}' >>/etc/brookbox/brookbox.yaml")
        one.run(INSTALL)
        assert "answered the echo" in one.run("brookbox send echo BROOKBOX@127.0.0.1:104")
        one.run("sed -i '$d' /etc/brookbox/brookbox.yaml")
        one.run(INSTALL)
        assert_answers(one)
        one.run("systemctl stop brookbox")
        one.run(
            "cp /brookbox/packaging/systemd/brookbox-worker.service /etc/systemd/system && "
            "systemctl daemon-reload && systemctl start brookbox-worker"
        )
        wait_for(
            lambda: "worker started" in one.run("journalctl -u brookbox-worker -o cat"),
            "the worker's unit works alone",
        )
        one.run("systemctl stop brookbox-worker")
        assert one.run("systemctl show -P Result brookbox-worker").strip() == "success"
        one.run("systemctl start brookbox")
        assert "stopping brookbox" in one.run("/opt/brookbox/share/uninstall.sh")
        assert "index.sqlite3" in one.run("ls /var/lib/brookbox/data")


def test_the_provisioning_of_vagrant_runs_twice(committed: list[str]) -> None:
    provision = "cp /brookbox/packaging/vagrant/provision.sh /tmp/shell && bash /tmp/shell nat"
    with machine(fresh.minbase(), network="host") as one:
        assert "there is no second disk" in one.run(provision, seconds=1200)
        image = commit(one, "brookbox-test/provisioned:1", committed)
    with machine(image, network="none") as one:
        assert "installing" not in one.run(provision)
        start_by_hand(one)
        assert_answers(one)
        assert "all addresses" in one.text("/up.log")
        doctor = one.run("brookbox doctor || true")
        assert "Rules and limits by address are off (receiver.behind_nat)" in doctor
        # Beyond loopback nothing is shown without the key.
        assert one.run(PAGE.replace("2813/", "2813/api/v1/jobs") + " || true").count("401")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the bundle unpacks to; made as `make bundle` does."""
    fresh.minbase()
    done = subprocess.run(
        [CHECKOUT / "packaging/bundle/make.sh"], text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    archive = max((CHECKOUT / "dist").glob("brookbox-*.tar"), key=lambda one: one.stat().st_mtime)
    folder = tmp_path_factory.mktemp("bundle")
    subprocess.run(["tar", "-C", folder, "-xf", archive], check=True, timeout=120)
    return next(folder.iterdir())


def test_the_bundle_installs_without_network_and_the_demo_comes_back(bundle: Path) -> None:
    with machine(
        fresh.minbase_with_systemd(), network="none", boots=True, shows=[f"{bundle}:/bundle"]
    ) as one:
        said = one.run("/bundle/install.sh", seconds=900)
        assert "loading the images" in said
        assert_answers(one)
        assert "came back" in one.run("brookbox demo --seconds 280")
        assert "container" in one.run("brookbox jobs show 1")
        again = one.run("/bundle/install.sh", seconds=300)
        assert "the images are here already" in again and "installing" not in again
        assert_answers(one)
