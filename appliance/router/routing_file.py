"""Read and check routing.yaml.

`parse` gathers every mistake and raises them at once, each as `file:line` with what
was probably meant.  A file that is not there, or is empty, holds no rules.
Regular expressions must match the whole AE title or value; case counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from appliance.errors import RoutingError
from appliance.router import own_node, rules
from appliance.router import yaml_values as values
from appliance.router.host_names import addresses_soon
from appliance.router.rules import BACK_TO_SENDER, Destination, Routing, Rule
from appliance.settings import Settings

_DESTINATION: Mapping[str, values.Reader] = {
    "ae_title": values.ae_title,
    "host": values.host,
    "port": values.number(1, 65535),
    "own_ae_title": values.ae_title,
    "associations": values.number(1, 64),
    "max_pdu_bytes": values.number(4096, rules.LARGEST_PDU_BYTES),
    "association_timeout_seconds": values.number(0.1, 3600, whole=False),
    "answer_timeout_seconds": values.number(0.1, 86400, whole=False),
    "sends_from": values.list_of(values.network),
}
_RULE: Mapping[str, values.Reader] = {
    "name": values.text,
    "called": values.pattern,
    "calling": values.pattern,
    "outcome": values.list_of(values.choice(rules.OUTCOMES)),
    "tags": values.list_of(values.tag_tests),
    "what": values.choice(rules.WHATS),
    "to": values.list_of(values.text),
    "senders": values.choice(rules.SENDERS),
    "stop": values.truth,
    "enabled": values.truth,
}
DESTINATION_KEYS = tuple(_DESTINATION)
RULE_KEYS = tuple(_RULE)
_LARGEST_BYTES = 1_000_000


def digest_of(text: str) -> str:
    """Name a version of the text; a file that is not there is the empty text."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_text(settings: Settings) -> str:
    """Read routing.yaml; "" when there is none, RoutingError when it cannot be read."""
    file = settings.routing_file
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise RoutingError(
            f"{file}: it cannot be read: {error}.",
            remedy=f"let the user that runs Brookbox read {file}, written in UTF-8",
        ) from error


def load(settings: Settings) -> Routing:
    """Read routing.yaml whole; RoutingError with every mistake, one a line."""
    return parse(read_text(settings), settings)


def parse(text: str, settings: Settings, where: str = "") -> Routing:
    """Check a text as routing.yaml; `where` is what mistakes call the file."""
    reading = _Reading(where or str(settings.routing_file), settings)
    made = reading.routing(text)
    if reading.mistakes or made is None:
        raise RoutingError(
            reading.sentences(), remedy="mend the lines above, then: brookbox routing check"
        )
    return made


@dataclass(slots=True)
class _Reading:
    """One reading of one text, and the mistakes that it met."""

    where: str
    settings: Settings
    mistakes: list[tuple[int, str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)  # of destinations, good or not

    def say(self, node: yaml.Node, sentence: str) -> None:
        self.mistakes.append((node.start_mark.line + 1, sentence))

    def sentences(self) -> str:
        """Give every mistake on a line of its own, in the order of the file."""
        ordered = sorted(self.mistakes, key=lambda mistake: mistake[0])
        return "\n".join(f"{self.where}:{line}: {sentence}" for line, sentence in ordered)

    def _about(self, what: str) -> values.Say:
        return lambda node, sentence: self.say(node, f"{what} {sentence}")

    def routing(self, text: str) -> Routing | None:
        tree = self._compose(text)
        digest = digest_of(text)
        if tree is None or values.is_empty(tree):
            return Routing(digest=digest)
        readers: Mapping[str, values.Reader] = {"destinations": _as_is, "rules": _as_is}
        parts = values.mapping(tree, readers, "routing.yaml", self.say) or {}
        destinations = self._destinations(parts.get("destinations"))
        return Routing(destinations, self._rules(parts.get("rules")), digest)

    def _compose(self, text: str) -> yaml.Node | None:
        if len(text) > _LARGEST_BYTES:
            self.mistakes.append((1, "it is larger than 1 MB."))
            return None
        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 1
            why = getattr(error, "problem", None) or "it is nested too deeply"
            self.mistakes.append((line, f"this is not YAML: {why}."))
            return None

    def _destinations(self, node: yaml.Node | None) -> dict[str, Destination]:
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.say(node, "destinations must hold names, each with ae_title, host and port.")
            return {}
        found: dict[str, Destination] = {}
        for key, body in node.value:
            name = values.text(key, self._about("the name of a destination"))
            if name is None:
                continue
            if name in self.names or name == BACK_TO_SENDER:
                self.say(key, f"{name} cannot be the name of a destination here: it is taken.")
                continue
            self.names.add(name)
            if destination := self._destination(key, name, body):
                found[name] = destination
        return found

    def _destination(self, key: yaml.Node, name: str, body: yaml.Node) -> Destination | None:
        path = f"destinations.{name}"
        read = values.mapping(body, _DESTINATION, path, self.say)
        if not self._is_whole(key, path, read, ("ae_title", "host", "port")):
            return None
        defaults = {
            "own_ae_title": self.settings.node.ae_title,
            "association_timeout_seconds": self.settings.router.association_timeout_seconds,
            "answer_timeout_seconds": self.settings.router.answer_timeout_seconds,
        }
        made = Destination(name=name, **{**defaults, **(read or {})})
        for address in addresses_soon(made.host):
            if why := own_node.why_never(address, made.port, self.settings):
                self.say(key, f"{path} cannot be used: it {why}.")
                return None
        return made

    def _rules(self, node: yaml.Node | None) -> tuple[Rule, ...]:
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode):
            self.say(node, "rules must be a list: each rule begins with a dash.")
            return ()
        found: dict[str, Rule] = {}
        for number, body in enumerate(node.value, start=1):
            rule = self._rule(number, body)
            if rule and rule.name in found:
                self.say(body, f"a rule {rule.name} stands here a second time.")
            elif rule:
                found[rule.name] = rule
        return tuple(found.values())

    def _rule(self, number: int, body: yaml.Node) -> Rule | None:
        path = f"rules[{number}]"
        read = values.mapping(body, _RULE, path, self.say)
        is_whole = self._is_whole(body, path, read, ("name", "to"))
        for name in (read or {}).get("to") or ():
            if name != BACK_TO_SENDER and name not in self.names:
                near = values.meant(name, [*self.names, BACK_TO_SENDER])
                self.say(_value(body, "to"), f"{path}.to: {name} is not a destination.{near}")
        return Rule(**read) if read and is_whole else None

    def _is_whole(
        self, node: yaml.Node, path: str, read: dict[str, Any] | None, needed: tuple[str, ...]
    ) -> bool:
        """Say whether nothing is wrong with what was read, and nothing needed is absent."""
        if read is None:
            return False
        if absent := [name for name in needed if name not in read]:
            self.say(node, f"{path} needs {' and '.join(absent)}.")
        return not absent and None not in read.values()


def _as_is(node: yaml.Node, say: values.Say) -> yaml.Node:
    return node


def _value(node: yaml.Node, name: str) -> yaml.Node:
    return next((value for key, value in node.value if key.value == name), node)
