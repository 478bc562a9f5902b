"""Read, check and write down the settings.

`load` gathers every mistake of the file and of the BROOKBOX_… overrides and
raises them at once, each as `file:line` with what was probably meant.
`changes` compares two readings for a reload; `sample` is config/brookbox.yaml.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import math
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from appliance import logs
from appliance.errors import SettingsError
from appliance.settings import Settings

_AE_TITLES = {"allow_calling", "senders"}
_ENVIRONMENT_ONLY = {"BROOKBOX_CONFIG", "BROOKBOX_HOME"}


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared setting, as the sample, the checks and the help pages need it."""

    section: str
    name: str
    type: Any
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    live: bool

    @property
    def path(self) -> str:
        """Its name in the file, such as `receiver.port`."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """Its override, such as `BROOKBOX_RECEIVER_PORT`."""
        return f"BROOKBOX_{self.section}_{self.name}".upper()


def declared() -> list[Declared]:
    """List every setting in the order of its declaration."""
    return list(_declared())


def _declared() -> Iterator[Declared]:
    for section_name, section in sections().items():
        hints = typing.get_type_hints(section)
        blank = section()
        for field in fields(section):
            yield Declared(
                section_name,
                field.name,
                hints[field.name],
                getattr(blank, field.name),
                **field.metadata,
            )


def sections() -> dict[str, Any]:
    """Map each section's name to its dataclass."""
    hints = typing.get_type_hints(Settings)
    return {
        field.name: hints[field.name]
        for field in fields(Settings)
        if dataclasses.is_dataclass(hints[field.name])
    }


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
    """Read what can be read: the settings, wrong ones at their defaults, and every mistake."""
    environment = os.environ if environment is None else environment
    home = (home or Path(environment.get("BROOKBOX_HOME", "."))).absolute()
    file = file.absolute() if file else find_file(home, environment)
    mistakes: list[str] = []
    values = _read_file(file, mistakes) if file else {}
    _override(values, environment, mistakes)
    made = {name: section(**values.get(name, {})) for name, section in sections().items()}
    return Settings(**made, source=file, home=home), mistakes


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


def _read_file(file: Path, mistakes: list[str]) -> dict[str, dict[str, Any]]:
    text = ""
    try:
        text = file.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        mistakes.append(f"{file}: there is no such file.")
        return {}
    except (OSError, UnicodeDecodeError) as error:
        mistakes.append(f"{file}: it cannot be read: {getattr(error, 'strerror', None) or error}.")
        return {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        mistakes.append(f"{file}:{line}: this is not YAML: {getattr(error, 'problem', error)}.")
        return _data_root_in(text)
    if tree is None:
        return {}
    if not isinstance(tree, yaml.MappingNode):
        mistakes.append(f"{file}:1: the file must hold sections, such as receiver:.")
        return {}
    return _read_sections(file, tree, mistakes)


def _data_root_in(text: str) -> dict[str, dict[str, Any]]:
    """Find data_root in a text that is not YAML: a node that runs there can still be asked."""
    found = re.search(r"^\s+data_root:\s*([^\s#'\"]+)\s*(?:#.*)?$", text, re.MULTILINE)
    return {"node": {"data_root": found[1]}} if found else {}


def _read_sections(
    file: Path, tree: yaml.MappingNode, mistakes: list[str]
) -> dict[str, dict[str, Any]]:
    known = {name: {d.name: d for d in declared() if d.section == name} for name in sections()}
    values: dict[str, dict[str, Any]] = {}
    for key, body in tree.value:
        where = f"{file}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            mistakes.append(f"{where}: a section's name must be one word.")
        elif key.value not in known:
            mistakes.append(f"{where}: {key.value} is not a section.{_meant(key.value, known)}")
        elif key.value in values:
            mistakes.append(f"{where}: {key.value} stands here a second time.")
        elif isinstance(body, yaml.MappingNode):
            values[key.value] = _read_values(file, key.value, body, known[key.value], mistakes)
        elif body.value not in ("", "null", "~"):
            mistakes.append(f"{where}: {key.value} must hold settings, one a line.")
    return values


def _read_values(
    file: Path,
    section: str,
    body: yaml.MappingNode,
    known: dict[str, Declared],
    mistakes: list[str],
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, node in body.value:
        where = f"{file}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            mistakes.append(f"{where}: the name of a setting must be one word.")
            continue
        if key.value not in known:
            mistakes.append(
                f"{where}: {section}.{key.value} is not a setting.{_meant(key.value, known)}"
            )
            continue
        if key.value in values:
            mistakes.append(f"{where}: {section}.{key.value} stands here a second time.")
            continue
        try:
            raw = _as_written(known[key.value].type, node)
        except yaml.YAMLError as error:
            mistakes.append(f"{where}: {section}.{key.value}: {error}")
            continue
        _keep(values, known[key.value], raw, where, mistakes)
    return values


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


def _override(
    values: dict[str, dict[str, Any]], environment: Mapping[str, str], mistakes: list[str]
) -> None:
    known = {one.variable: one for one in declared()}
    prefixes = tuple(f"BROOKBOX_{name.upper()}_" for name in sections())
    for variable, text in sorted(environment.items()):
        if not variable.startswith(prefixes) or variable in _ENVIRONMENT_ONLY:
            continue
        if variable not in known:
            mistakes.append(f"{variable}: no setting has this override.{_meant(variable, known)}")
            continue
        one = known[variable]
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            raw = text if one.type is str or node is None else _as_written(one.type, node)
        except yaml.YAMLError:
            raw = text
        _keep(values.setdefault(one.section, {}), one, raw, variable, mistakes)


def _keep(values: dict[str, Any], one: Declared, raw: Any, where: str, mistakes: list[str]) -> None:
    try:
        values[one.name] = _checked(one, raw)
    except ValueError as error:
        mistakes.append(f"{where}: {one.path} {error}")


def _checked(one: Declared, raw: Any) -> Any:
    value = _converted(one.type, raw)
    if one.choices and value not in one.choices:
        raise ValueError(f"must be one of {', '.join(one.choices)}, not {value!r}.")
    for number in value.values() if isinstance(value, dict) else [value]:
        if one.low is not None and isinstance(number, int | float) and number < one.low:
            raise ValueError(f"must be at least {one.low:g}, not {number!r}.")
        if one.high is not None and isinstance(number, int | float) and number > one.high:
            raise ValueError(f"must be at most {one.high:g}, not {number!r}.")
    for title in [value] if one.name == "ae_title" else value if one.name in _AE_TITLES else ():
        if not _is_ae_title(title):
            words = "must be 1 to 16 printable ASCII characters, no backslash"
            raise ValueError(f"{words}: {title!r}.")
    for network in value if one.name == "allow_addresses" else ():
        _check_network(network)
    return value


def _check_network(text: str) -> None:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"must be networks, such as 10.1.0.0/16: {error}.") from error


def _is_ae_title(text: str) -> bool:
    plain = text.strip(" ")
    return 0 < len(plain) <= 16 and all(" " <= c <= "~" and c != "\\" for c in plain)


def _converted(kind: Any, raw: Any) -> Any:
    if kind is bool and isinstance(raw, bool):
        return raw
    if kind is int and isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
    if kind is float and is_number and math.isfinite(raw):
        return float(raw)
    if kind is str and isinstance(raw, str | int) and not isinstance(raw, bool):
        return str(raw)
    origin = typing.get_origin(kind)
    if origin is tuple and isinstance(raw, list | str):
        return tuple(str(part) for part in (raw if isinstance(raw, list) else [raw]))
    if origin is dict and isinstance(raw, dict):
        return {str(name): _converted(float, part) for name, part in raw.items()}
    raise ValueError(f"must be {_words(kind)}, not {raw!r}.")


def _words(kind: Any) -> str:
    if isinstance(kind, types.GenericAlias):
        return "a list" if typing.get_origin(kind) is tuple else "a mapping of names to numbers"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]


def _meant(name: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


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
    try:
        new = load(old.source, old.home)
    except SettingsError as error:
        logs.get().error("settings are wrong, the old ones stay", mistakes=str(error))
        return old
    live, restart = changes(old, new)
    logs.set_level(new.node.log_level)
    logs.get().info("settings read again", changed=live, waiting_for_restart=restart)
    return with_live_changes(old, new)
