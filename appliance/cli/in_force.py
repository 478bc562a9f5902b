"""The settings that the running node works with, kept in data_root/run.

`brookbox config reload` compares the file with them, to say what changes now and
what waits for a restart.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from appliance import settings_file
from appliance.disk.layout import Layout
from appliance.settings import Settings


def as_tree(settings: Settings) -> dict[str, dict[str, object]]:
    """Give all settings as sections of plain values."""
    tree: dict[str, dict[str, object]] = {}
    for one in settings_file.declared():
        value = getattr(getattr(settings, one.section), one.name)
        tree.setdefault(one.section, {})[one.name] = (
            list(value) if isinstance(value, tuple) else value
        )
    return tree


def write_in_force(settings: Settings) -> None:
    """Keep the settings that are in force from now on."""
    file = _file(settings)
    part = file.with_suffix(".part")
    part.write_text(yaml.safe_dump(as_tree(settings), sort_keys=False), "utf-8")
    part.replace(file)


def read_in_force(settings: Settings) -> Settings | None:
    """Give the settings that the node of this data_root was started with; None when unknown."""
    file = _file(settings)
    return settings_file.load(file, settings.home, {}) if file.is_file() else None


def _file(settings: Settings) -> Path:
    return Layout(settings.data_root).run / "settings.yaml"
