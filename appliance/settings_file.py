"""Read, check and write down the settings.

`load` gathers every mistake of the file and of the BROOKBOX_… overrides and
raises them at once, each as `file:line` with what was probably meant.
`changes` compares two readings for a reload; `sample` is config/brookbox.yaml.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from appliance.errors import SettingsError
from appliance.settings import Settings
from appliance.settings_declared import Declared, declared, sections
from appliance.settings_values import checked, contradictions

# Every variable that Brookbox uses and that overrides no setting.
NO_OVERRIDES = frozenset(
    f"BROOKBOX_{name}"
    for name in (
        *("CONFIG", "HOME"),  # which settings
        *("SUPERVISED", "DATA_ROOT"),  # `brookbox up` to its processes
        *("INPUT", "OUTPUT", "JOB", "JOB_TOKEN", "MODELS", "MEMORY"),  # a worker to a stream
        *("REAL_DATA", "REQUIRE_ALL", "TESTS_UNPRIVILEGED", "BUILD_BASE"),  # the tests
    )
)


@dataclass(slots=True)
class _Found:
    """What was read so far; `places` tells where each setting is written, also a wrong one."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)

    def keep(self, one: Declared, raw: Any, where: str) -> None:
        """Keep the value of a setting, or the mistake that it is."""
        self.places[one.path] = where
        values = self.values.setdefault(one.section, {})
        values.pop(one.name, None)
        try:
            values[one.name] = checked(one, raw)
        except ValueError as error:
            self.mistakes.append(f"{where}: {one.path} {error}")

    def compare(self, settings: Settings) -> None:
        """Note what cannot be together, unless one of the two is a mistake already."""
        for names, sentence in contradictions(settings):
            if all(self._is_good(name) for name in names):
                where = next(self.places[name] for name in names if name in self.places)
                self.mistakes.append(f"{where}: {sentence}")

    def _is_good(self, path: str) -> bool:
        section, _, name = path.partition(".")
        return path not in self.places or name in self.values.get(section, {})


def find_file(home: Path, environment: Mapping[str, str]) -> Path | None:
    """Find the settings file: BROOKBOX_CONFIG, config/brookbox.yaml, /etc; None is none."""
    if named := environment.get("BROOKBOX_CONFIG"):
        return home / named
    places = (home / "config" / "brookbox.yaml", Path("/etc/brookbox/brookbox.yaml"))
    return next((place for place in places if place.is_file()), None)


def load(
    file: Path | None = None,
    home: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings; without any file they are the defaults.

    Raises SettingsError with every mistake, one a line, when there is any.
    """
    found, mistakes = read(file, home, environment)
    if mistakes:
        raise SettingsError("\n".join(mistakes), remedy=_remedy(found.source, len(mistakes)))
    return found


def read(
    file: Path | None = None,
    home: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Settings, list[str]]:
    """Read what can be read: the settings, wrong ones at their defaults, and every mistake.

    Those that are only wrong together stay as they are.
    """
    environment = os.environ if environment is None else environment
    home = (home or Path(environment.get("BROOKBOX_HOME", "."))).absolute()
    file = file.absolute() if file else find_file(home, environment)
    found = _Found()
    if file:
        _read_file(file, found)
    _override(environment, found)
    made = {name: section(**found.values.get(name, {})) for name, section in sections().items()}
    settings = Settings(**made, source=file, home=home)
    found.compare(settings)
    return settings, found.mistakes


def _remedy(file: Path | None, mistakes: int) -> str:
    if file is not None and mistakes == 1 and not file.exists():
        return "name another file (--config or BROOKBOX_CONFIG), or none: then the defaults count"
    return "brookbox config check, after mending the lines above"


def changes(old: Settings, new: Settings) -> tuple[list[str], list[str]]:
    """Name what changed: what may change while running, and what waits for a restart."""
    live: list[str] = []
    restart: list[str] = []
    for one in declared():
        was = getattr(getattr(old, one.section), one.name)
        if was != getattr(getattr(new, one.section), one.name):
            (live if one.live else restart).append(one.path)
    return live, restart


def with_live_changes(old: Settings, new: Settings) -> Settings:
    """Give `old` with those values of `new` that may change without restart."""
    made: dict[str, Any] = {}
    for name in sections():
        live = {
            one.name: getattr(getattr(new, name), one.name)
            for one in declared()
            if one.section == name and one.live
        }
        made[name] = dataclasses.replace(getattr(old, name), **live)
    return dataclasses.replace(old, **made)


def _read_file(file: Path, found: _Found) -> None:
    text = ""
    try:
        text = file.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        found.mistakes.append(f"{file}: there is no such file.")
        return
    except (OSError, UnicodeDecodeError) as error:
        found.mistakes.append(
            f"{file}: it cannot be read: {getattr(error, 'strerror', None) or error}."
        )
        return
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        found.mistakes.append(
            f"{file}:{line}: this is not YAML: {getattr(error, 'problem', error)}."
        )
        found.values = _data_root_in(text)
        return
    if tree is None:
        return
    if not isinstance(tree, yaml.MappingNode):
        found.mistakes.append(f"{file}:1: the file must hold sections, such as receiver:.")
        return
    _read_sections(file, tree, found)


def _data_root_in(text: str) -> dict[str, dict[str, Any]]:
    """Find data_root in a text that is not YAML: a node that runs there can still be asked."""
    found = re.search(r"^\s+data_root:\s*([^\s#'\"]+)\s*(?:#.*)?$", text, re.MULTILINE)
    return {"node": {"data_root": found[1]}} if found else {}


def _read_sections(file: Path, tree: yaml.MappingNode, found: _Found) -> None:
    known = {name: {d.name: d for d in declared() if d.section == name} for name in sections()}
    seen: set[str] = set()
    for key, body in tree.value:
        where = f"{file}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            found.mistakes.append(f"{where}: a section's name must be one word.")
        elif key.value not in known:
            found.mistakes.append(
                f"{where}: {key.value} is not a section.{_meant(key.value, known)}"
            )
        elif key.value in seen:
            found.mistakes.append(f"{where}: {key.value} stands here a second time.")
        elif isinstance(body, yaml.MappingNode):
            seen.add(key.value)
            _read_values(file, key.value, body, known[key.value], found)
        elif body.value not in ("", "null", "~"):
            found.mistakes.append(f"{where}: {key.value} must hold settings, one a line.")


def _read_values(
    file: Path, section: str, body: yaml.MappingNode, known: dict[str, Declared], found: _Found
) -> None:
    for key, node in body.value:
        where = f"{file}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            found.mistakes.append(f"{where}: the name of a setting must be one word.")
            continue
        path = f"{section}.{key.value}"
        if key.value not in known:
            meant = _meant(key.value, known)
            found.mistakes.append(f"{where}: {path} is not a setting.{meant}")
            continue
        if path in found.places:
            found.mistakes.append(f"{where}: {path} stands here a second time.")
            continue
        try:
            raw = _as_written(known[key.value].type, node)
        except (yaml.YAMLError, ValueError):
            # A tag such as !x, or what looks like a date and is none.
            found.places[path] = where
            found.mistakes.append(f"{where}: {path} cannot be read as a value of YAML.")
            continue
        found.keep(known[key.value], raw, where)


def _as_written(kind: Any, node: yaml.Node) -> Any:
    """Construct a value; text stays as it stands there, or YAML makes 83 of the AE title 0123."""
    origin = typing.get_origin(kind)
    is_text = isinstance(node, yaml.ScalarNode) and node.tag != "tag:yaml.org,2002:null"
    if is_text and (kind is str or origin is tuple):
        return node.value
    if origin is tuple and isinstance(node, yaml.SequenceNode):
        return [_as_written(str, part) for part in node.value]
    make = yaml.SafeLoader("").construct_document
    if origin is dict and isinstance(node, yaml.MappingNode):
        return {str(_as_written(str, key)): make(part) for key, part in node.value}
    return make(node)


def _override(environment: Mapping[str, str], found: _Found) -> None:
    known = {one.variable: one for one in declared()}
    for variable, text in sorted(environment.items()):
        if variable in known:
            one = known[variable]
            found.keep(one, _of_variable(one, text), variable)
        elif variable.startswith("BROOKBOX_") and not _is_of_others(variable, text):
            meant = _meant(variable, known, cutoff=0.8)
            found.mistakes.append(f"{variable}: no setting has this override.{meant}")


def _is_of_others(variable: str, text: str) -> bool:
    """Say whether it is none of the settings' variables by intent.

    Kubernetes gives each container variables of every service: of one that is called
    brookbox they are BROOKBOX_SERVICE_HOST, BROOKBOX_PORT=tcp://… and the like.
    """
    if variable in NO_OVERRIDES:
        return True
    is_address = variable == "BROOKBOX_PORT" and "://" in text
    return is_address or variable.startswith(("BROOKBOX_SERVICE_", "BROOKBOX_PORT_"))


def _of_variable(one: Declared, text: str) -> Any:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return text if one.type is str or node is None else _as_written(one.type, node)
    except (yaml.YAMLError, ValueError):
        return text


def _meant(name: str, known: typing.Iterable[str], cutoff: float = 0.6) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    close = close or [one for one in known if _long_words(one) & _long_words(name)]
    # Of several that share a word nobody knows which was meant.
    return f" Did you mean {close[0]}?" if len(close) == 1 else ""


def _long_words(name: str) -> set[str]:
    """Give the words that say something: stream_failures is not far from failures_in_a_row."""
    return {word for word in name.lower().split("_") if len(word) > 3 and word != "brookbox"}


def sample() -> str:
    """Write the settings file that lists everything, commented, at its default."""
    lines = [
        "# Brookbox settings.  Every setting stands here, commented, at its default.",
        "# Made by `brookbox config sample`.  Lines marked [live] change on `brookbox config",
        "# reload`; the others when the node is started again.  Each may be overridden by",
        "# an environment variable, such as BROOKBOX_RECEIVER_PORT=104.",
    ]
    section = ""
    for one in declared():
        if one.section != section:
            section = one.section
            summary = (sections()[section].__doc__ or "").strip().splitlines()[0]
            lines += ["", f"# {summary}", f"{section}:"]
        lines.append(f"  # {one.help}{_limits(one)}.{' [live]' if one.live else ''}")
        lines.append(f"  # {one.name}: {_as_yaml(one.default)}")
    return "\n".join(lines) + "\n"


def _limits(one: Declared) -> str:
    if one.choices:
        return f" ({' | '.join(one.choices)})"
    if one.low is not None and one.high is not None:
        return f" ({one.low:g} to {one.high:g})"
    return f" (at least {one.low:g})" if one.low is not None else ""


def _as_yaml(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).strip()
    return text.removesuffix("...").strip()


def reloaded(old: Settings) -> Settings:
    """Read the settings again while running: what may change changes, the rest is named.

    A broken file leaves the old settings in force; both are logged.
    """
    from appliance import logs  # only a process logs; a command that reads them does not

    try:
        new = load(old.source, old.home)
    except SettingsError as error:
        logs.get().error("settings are wrong, the old ones stay", mistakes=str(error))
        return old
    live, restart = changes(old, new)
    logs.set_level(new.node.log_level)
    logs.get().info("settings read again", changed=live, waiting_for_restart=restart)
    return with_live_changes(old, new)
