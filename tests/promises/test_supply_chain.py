"""AT-30: what is installed beside the node is pinned, known by its digests, and listed."""

from __future__ import annotations

import configparser
import functools
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

CHECKOUT = Path(__file__).resolve().parents[2]
LOCK = CHECKOUT / "packaging" / "requirements.lock"
TEST_LOCK = CHECKOUT / "packaging" / "requirements-test.lock"
# Below these, known holes are open: FAULTS.md D15.
FLOORS = {
    "pydicom": "3.0.2",
    "pynetdicom": "3.0.4",
    "waitress": "3.0.1",
    "werkzeug": "3.1.6",
    "jinja2": "3.1.6",
    "pyyaml": "6.0.1",
    "urllib3": "2.5.0",
    "requests": "2.32.4",
    "pillow": "11.3.0",
    "setuptools": "78.1.1",
}


@functools.cache
def sbom() -> ModuleType:
    """The script of `make sbom`, which reads the locks."""
    spec = importlib.util.spec_from_file_location("sbom", CHECKOUT / "packaging" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sbom"] = module
    spec.loader.exec_module(module)
    return module


def wanted(*extras: str) -> list[Requirement]:
    """What setup.cfg asks for."""
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg")
    parts = [config["options"]["install_requires"]]
    parts += [config["options.extras_require"][extra] for extra in extras]
    lines = [line for part in parts for line in part.split("\n")]
    return [Requirement(line) for line in lines if line.strip() and line[0] != "#"]


@pytest.mark.parametrize("lock", [LOCK, TEST_LOCK], ids=lambda path: path.name)
def test_at_30_every_line_of_a_lock_is_one_version_with_its_digests(lock: Path) -> None:
    text = lock.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and line[0] != "#"]
    pins = sbom().pins_of(lock)
    assert len(lines) == len(pins), "a line pins nothing"
    assert [pin.name for pin in pins if not pin.digests] == []
    assert len({pin.name for pin in pins}) == len(pins)


@pytest.mark.parametrize(
    ("lock", "extras"), [(LOCK, ["postgresql"]), (TEST_LOCK, ["postgresql", "test"])]
)
def test_at_30_a_lock_holds_what_is_asked_for(lock: Path, extras: list[str]) -> None:
    pinned = {pin.name: pin.version for pin in sbom().pins_of(lock)}
    for one in wanted(*extras):
        name = one.name.lower().replace("_", "-").replace(".", "-")
        assert name in pinned, f"{one} is not in {lock.name}"
        assert one.specifier.contains(pinned[name]), f"{one} is locked at {pinned[name]}"


def test_at_30_both_locks_agree() -> None:
    tested = {pin.name: pin for pin in sbom().pins_of(TEST_LOCK)}
    differing = [pin.name for pin in sbom().pins_of(LOCK) if tested.get(pin.name) != pin]
    assert differing == [], "the tests would run with other files than the node"


@pytest.mark.parametrize("name", FLOORS)
def test_at_30_nothing_is_below_its_floor(name: str) -> None:
    pinned = {pin.name: pin.version for pin in sbom().pins_of(TEST_LOCK)}
    assert Version(pinned[name]) >= Version(FLOORS[name])
    for one in (one for one in wanted() if one.name.lower() == name):
        below = f"{FLOORS[name]}.dev0"
        assert name not in ("pydicom", "waitress", "werkzeug") or not one.specifier.contains(
            below, prereleases=True
        ), f"setup.cfg lets {name} below {FLOORS[name]} in"


def test_at_30_pip_is_told_to_ask_for_digests_wherever_it_installs() -> None:
    scripts = [
        path
        for path in (CHECKOUT / "packaging").rglob("*")
        if path.is_file() and path.suffix in (".sh", "") and "Vagrant" not in path.name
    ]
    asked = 0
    for path in scripts:
        text = path.read_text("utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            if "pip" not in line or line.lstrip().startswith("#"):
                continue
            if re.search(r"\s-r\s+\S*(lock|requirements)", line):
                assert "--require-hashes" in line, f"{path.name}: {line}"
                asked += 1
            elif "pip install" in line:
                # Our own package has no digest to ask for; it brings nothing else with it.
                assert "--no-deps" in line, f"{path.name}: {line}"
    assert asked, "nothing is installed from the lock"


def test_at_30_another_file_under_a_pinned_name_is_not_installed(tmp_path: Path) -> None:
    pin = next(pin for pin in sbom().pins_of(LOCK) if pin.name == "mdurl")
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"{pin.name}=={pin.version} --hash=sha256:{pin.digests[0]}\n")
    wheel = tmp_path / f"{pin.name}-{pin.version}-py3-none-any.whl"
    wheel.write_bytes(b"PK\5\6" + bytes(18))
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--require-hashes",
            "--no-deps", "--ignore-installed", "--find-links", str(tmp_path),
            "--target", str(tmp_path / "to"), "-r", str(lock),
        ],
        capture_output=True, text=True, timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_at_30_the_bill_of_materials_names_every_package(tmp_path: Path) -> None:
    script, target = CHECKOUT / "packaging" / "sbom.py", tmp_path / "dist" / "brookbox.cdx.json"
    for _ in range(2):
        before = target.read_bytes() if target.exists() else b""
        subprocess.run([sys.executable, str(script), str(target)], check=True, timeout=60)
    assert target.read_bytes() == before, "the same lock gives the same bill"
    told = json.loads(target.read_text())
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.5")
    pins = {(pin.name, pin.version): pin for pin in sbom().pins_of(LOCK)}
    assert {(one["name"], one["version"]) for one in told["components"]} == set(pins)
    for one in told["components"]:
        pin = pins[one["name"], one["version"]]
        assert one["purl"] == f"pkg:pypi/{pin.name}@{pin.version}"
        assert {each["content"] for each in one["hashes"]} == set(pin.digests)
        assert one.get("licenses"), f"{pin.name} tells no licence"
    refs = {one["bom-ref"] for one in told["components"]}
    needs = {one["ref"]: set(one["dependsOn"]) for one in told["dependencies"]}
    assert set().union(*needs.values()) <= refs
    own = needs[told["metadata"]["component"]["bom-ref"]]
    assert {f"pkg:pypi/{one.name.lower().replace('.', '-')}" for one in wanted()} <= {
        ref.split("@")[0] for ref in own
    }
