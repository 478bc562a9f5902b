"""The settings that the running node works with, kept in data_root/run.

`brookbox config reload` compares the file with them, to say what changes now and what
waits for a restart.  While the file has mistakes the running node goes on with them: so
does what looks at it, and a process of it that is started again.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import yaml

from appliance import settings_file
from appliance.disk.layout import Layout
from appliance.health import node_lock
from appliance.settings import Settings
from appliance.settings_declared import declared


def as_tree(settings: Settings) -> dict[str, dict[str, object]]:
    """Give all settings as sections of plain values."""
    tree: dict[str, dict[str, object]] = {}
    for one in declared():
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
    if not file.is_file():
        return None
    found = settings_file.load(file, settings.home, {})
    return dataclasses.replace(found, source=settings.source)


def of_running_node(config: Path | None, home: Path | None) -> Settings | None:
    """Give what the running node works with, whatever the file says now; None when none runs.

    Its data_root is what the rest of the file says; a process of the node is told by it.
    """
    found, _ = settings_file.read(config, home)
    if told := os.environ.get(node_lock.VARIABLE):
        found = dataclasses.replace(found, node=dataclasses.replace(found.node, data_root=told))
    is_running = node_lock.holder(Layout(found.data_root).run) is not None
    return read_in_force(found) if is_running else None


def _file(settings: Settings) -> Path:
    return Layout(settings.data_root).run / "settings.yaml"
