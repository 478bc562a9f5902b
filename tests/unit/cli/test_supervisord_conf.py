"""supervisord's configuration is what the settings say, and supervisord reads it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from appliance.cli import supervisord_conf
from appliance.cli.supervisord_conf import Machine, render
from appliance.settings import Queue, Settings

CHECKOUT = Path(__file__).resolve().parents[3]
MACHINE = Machine("/venv with space/bin/python", "/usr/sbin/gearmand", "/usr/bin/setpriv")


def read(settings: Settings, tmp_path: Path, machine: Machine = MACHINE) -> ServerOptions:
    """Have supervisord's own parser read what we made of the settings."""
    (settings.data_root / "run").mkdir(parents=True, exist_ok=True)
    (settings.data_root / "logs").mkdir(exist_ok=True)
    file = tmp_path / "supervisord.conf"
    file.write_text(render(settings, machine))
    options = ServerOptions()
    options.realize(["-c", str(file)])
    return options


def programs(options: ServerOptions) -> dict[str, object]:
    groups = options.process_group_configs
    return {one.name: one for group in groups for one in group.process_configs}


def test_the_sample_in_the_repository_is_this_one() -> None:
    assert (CHECKOUT / "config" / "supervisord.conf").read_text() == supervisord_conf.sample(), (
        "make it again: brookbox config sample --supervisord > config/supervisord.conf"
    )


def test_supervisord_reads_it_whatever_the_folder_is_called(tmp_path: Path) -> None:
    home = tmp_path / 'a %(here)s "quoted" folder'
    home.mkdir()
    settings = Settings(home=home, source=home / "my settings.yaml")
    found = programs(read(settings, tmp_path))
    assert set(found) == {"gearmand", *supervisord_conf.PROGRAMS}
    for name in supervisord_conf.PROGRAMS:
        words = shlex.split(found[name].command)  # type: ignore[attr-defined]
        assert words == [
            "/venv with space/bin/python", "-m", "appliance.cli", "--home", str(home),
            "--config", str(home / "my settings.yaml"), name,
        ]  # fmt: skip
        assert found[name].directory == str(home)  # type: ignore[attr-defined]
        assert found[name].environment["BROOKBOX_SUPERVISED"] == "1"  # type: ignore[attr-defined]


def test_gearmand_dies_with_supervisord_and_keeps_nothing(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, queue=Queue(servers=("127.0.0.1:24730",)))
    words = programs(read(settings, tmp_path))["gearmand"].command.split()  # type: ignore[attr-defined]
    assert words[:3] == ["/usr/bin/setpriv", "--pdeathsig", "TERM"]
    assert "-t 1 -L 127.0.0.1 -p 24730" in " ".join(words)
    assert "-q" not in words and "-j" not in words


def test_a_gearmand_of_another_machine_is_not_started(tmp_path: Path) -> None:
    queue = Queue(servers=("10.0.0.9:4730",), start_gearmand=False)
    assert "gearmand" not in programs(read(Settings(home=tmp_path, queue=queue), tmp_path))


@pytest.mark.parametrize("deep", ["", "x" * 120])
def test_the_socket_has_an_address_that_the_kernel_takes(tmp_path: Path, deep: str) -> None:
    settings = Settings(home=tmp_path / deep)
    [server] = read(settings, tmp_path).server_configs
    assert len(server["file"]) + len(f".{sys.maxsize}") < 128
    assert server["file"].endswith("supervisor.sock") and server["chmod"] == 0o700


def test_everything_is_stopped_within_forty_seconds(tmp_path: Path) -> None:
    for one in programs(read(Settings(home=tmp_path), tmp_path)).values():
        assert one.stopwaitsecs == 40 and one.autorestart  # type: ignore[attr-defined]
