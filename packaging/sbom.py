"""Write the node's bill of materials (CycloneDX 1.5, JSON): `make sbom`.

It names what `requirements.lock` pins, with the digests of the files that pip may install,
and the licence and dependencies that each package tells of itself where it is installed.
The same lock and packages give the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
LOCK = CHECKOUT / "packaging" / "requirements.lock"
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of the lock; `digests` are those of the files that pip accepts."""

    name: str
    version: str
    digests: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Its package URL, by which scanners know it."""
        return f"pkg:pypi/{self.name}@{self.version}"


def pins_of(lock: Path = LOCK) -> list[Pin]:
    """Read a lock; names are written as the index compares them (PEP 503)."""
    text = lock.read_text("utf-8").replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        if pinned := _PIN.match(line):
            digests = tuple(sorted(_HASH.findall(line)))
            found.append(Pin(_plain(pinned["name"]), pinned["version"], digests))
    return found


def bill(pins: list[Pin], version: str) -> dict[str, Any]:
    """Make the bill of materials of the node in this version."""
    known = {pin.name: pin for pin in pins}
    node = f"pkg:generic/brookbox@{version}"
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": node,
                "name": "brookbox",
                "version": version,
                "purl": node,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [_component(pin) for pin in pins],
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(set(_needed(name, known)))}
            for ref, name in [(node, "brookbox"), *((pin.purl, pin.name) for pin in pins)]
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {**content, "serialNumber": f"urn:uuid:{serial}"}


def _component(pin: Pin) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": "library",
        "bom-ref": pin.purl,
        "name": pin.name,
        "version": pin.version,
        "purl": pin.purl,
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in pin.digests],
    }
    try:
        facts = importlib.metadata.metadata(pin.name)
    except importlib.metadata.PackageNotFoundError:
        return told
    if summary := facts.get("Summary"):
        told["description"] = summary
    if expression := facts.get("License-Expression"):
        told["licenses"] = [{"expression": expression}]
    elif name := _licence(facts.get("License", ""), facts.get_all("Classifier") or []):
        told["licenses"] = [{"license": {"name": name}}]
    return told


def _licence(said: str, classifiers: list[str]) -> str:
    """Name a licence as older packages do; some write its whole text where its name belongs."""
    names = [one.rsplit(" :: ", 1)[1] for one in classifiers if one.startswith("License :: ")]
    return ", ".join(names) or (said if "\n" not in said else said.split("\n", 1)[0])


def _needed(name: str, known: Mapping[str, Pin]) -> Iterator[str]:
    """Give the package URLs of what a package needs, as far as the lock holds it."""
    try:
        words = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for requirement in words:
        match = _NAME.match(requirement)
        if match and (pin := known.get(_plain(match.group()))) is not None:
            yield pin.purl


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(target: Path) -> int:
    """Write the bill of materials to a file; the exit code."""
    sys.path.insert(0, str(CHECKOUT))
    import appliance

    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(bill(pins_of(), appliance.__version__), indent=1, ensure_ascii=False)
    target.write_text(text + "\n", "utf-8")
    print(f"{target}: {len(pins_of())} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist/brookbox.cdx.json")))
