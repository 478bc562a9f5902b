"""Carry the shipped streams in the wheel: setup.cfg cannot list a tree of data files."""

from pathlib import Path

from setuptools import setup

_HERE = Path(__file__).parent


def _tree(folder: str) -> list[tuple[str, list[str]]]:
    """List every file below a folder as data files under share/brookbox."""
    found: dict[str, list[str]] = {}
    for path in sorted((_HERE / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            relative = path.relative_to(_HERE)
            found.setdefault(f"share/brookbox/{relative.parent}", []).append(str(relative))
    return list(found.items())


setup(data_files=_tree("streams"))
