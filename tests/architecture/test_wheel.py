"""The wheel holds what the checkout runs on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# What stands beside a stream's image in a checkout, and what the node does not read.
_NOT_NEEDED = {".dockerignore", ".gitignore", "__pycache__"}


def _files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder.parent))
        for path in found
        if not _NOT_NEEDED & set(path.parts) and "wheels" not in path.parts
    }


def test_the_wheel_holds_every_file_of_the_program_and_of_the_streams(tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("appliance", "web", "streams", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "wheels")
        shutil.copytree(CHECKOUT / name, copy / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy)
    words = ("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy))
    built = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("brookbox-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name.split("/data/share/brookbox/")[-1] for name in archive.namelist()}
    shipped = ("streams/base/", "streams/echo/", "streams/montage/")
    streams = {name for name in _files(copy / "streams") if name.startswith(shipped)}
    wanted = _files(copy / "appliance") | _files(copy / "web") | streams
    assert sorted(wanted - held) == []
    assert {name for name in held if name.startswith("benchmarks")} == set()
