"""The house keeps its shape: imports go down, modules stay small, dangerous words stay out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
GROUND = {
    "errors", "settings", "settings_declared", "settings_values", "settings_file",
    "logs", "ids", "lifecycle", "bells", "amounts",
}  # fmt: skip
NOUNS = {"disk", "index", "queue"}
RULES = {"intake", "streams", "health", "metrics", "erasure"}
PROCESSES = {"receiver", "dispatcher", "worker", "router", "housekeeper", "reassemble"}
LEVEL = (
    dict.fromkeys(GROUND, 0)
    | {"dicom": 1}
    | dict.fromkeys(NOUNS, 2)
    | dict.fromkeys(RULES, 3)
    | dict.fromkeys(PROCESSES, 4)
    | {"web": 5, "cli": 6}
)
APART = (NOUNS, PROCESSES)
ONLY_IN = {
    "sqlalchemy": "appliance/index/",
    "alembic": "appliance/index/",
    "gearman": "appliance/queue/",
    "docker": "appliance/worker/container.py",
    "flask": "web/",
    "waitress": "web/",
    "click": "appliance/cli/",
    "rich": "appliance/cli/",
}


def modules() -> list[Path]:
    return sorted(
        path
        for folder in ("appliance", "web")
        for path in (CHECKOUT / folder).rglob("*.py")
        if "migrations" not in path.parts
    )


def names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "appliance":
                yield from (f"appliance.{a.name}" for a in node.names if a.name[0] != "_")


def part(module: str) -> str | None:
    """Give the part of the house that a dotted module belongs to."""
    words = module.split(".")
    if words[0] == "web":
        return "web"
    return words[1] if words[0] == "appliance" and len(words) > 1 else None


def own_part(path: Path) -> str | None:
    relative = path.relative_to(CHECKOUT)
    return part(".".join([*relative.parts[:-1], relative.stem]))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_imports_only_go_down(path: Path) -> None:
    mine = own_part(path)
    if mine in (None, "__init__"):
        return
    assert mine in LEVEL, f"{mine} has no floor in this house"
    for name in names(path):
        other = part(name)
        if other is None or other == mine:
            continue
        assert other in LEVEL, f"{path.name} imports {name}, which has no floor"
        assert LEVEL[other] <= LEVEL[str(mine)], f"{mine} imports {name}, which is above it"
        for group in APART:
            assert not {str(mine), other} <= group, f"{mine} and {other} must not know each other"


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_spoken_in_one_place_only(library: str) -> None:
    users = {
        str(path.relative_to(CHECKOUT))
        for path in modules()
        if any(name.split(".")[0] == library for name in names(path))
    }
    strangers = {user for user in users if not user.startswith(ONLY_IN[library])}
    # Connections are passed through our own functions; a type in a signature needs no import.
    assert strangers == set()


def test_no_module_is_over_400_lines() -> None:
    long = {
        str(path.relative_to(CHECKOUT)): count
        for folder in ("appliance", "web", "streams", "benchmarks", "tests")
        for path in (CHECKOUT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_no_package_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "helpers", "common", "core", "misc", "util"}
    assert not [path for path in modules() if drawers & {*path.parts, path.stem}]


@pytest.mark.parametrize(
    "word",
    [
        r"shell\s*=\s*True",
        r"os\.system\(",
        r"os\.popen\(",
        r"\bpickle\b",
        r"yaml\.load\(",
        r"\|\s*safe\b",
        r"\beval\(",
        r"(?<![\w.])exec\(",
        r"getoutput\(",
        r"create_subprocess_shell",
        r"unsafe_load",
    ],
)
def test_at_08_a_dangerous_word_stands_nowhere(word: str) -> None:
    places = [
        f"{path.relative_to(CHECKOUT)}:{number}"
        for path in [
            *modules(),
            *(CHECKOUT / "web").rglob("*.html"),
            *(CHECKOUT / "streams").rglob("*.py"),
            *(CHECKOUT / "packaging").rglob("*.py"),
        ]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(word, line)
    ]
    assert places == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(p.relative_to(CHECKOUT))
        for p in modules()
        if not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert silent == []


def test_except_exception_stands_only_at_the_boundary_of_a_process() -> None:
    counts: dict[str, int] = {}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            is_broad = isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (
                    isinstance(node.type, ast.Name)
                    and node.type.id in ("Exception", "BaseException")
                )
            )
            if is_broad:
                counts[str(own_part(path))] = counts.get(str(own_part(path)), 0) + 1
    assert all(count <= 2 for count in counts.values()), counts
