"""Structured edits of a text of routing.yaml, which keep the comments of whoever wrote it.

Each function takes the text and gives the new one; `edit.change` checks and saves it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from appliance.errors import NotFound, RoutingError
from appliance.router.yaml_comments import comments_kept

Fields = Mapping[str, Any]


def put_destination(text: str, name: str, fields: Fields) -> str:
    """Add a destination, or change one: a value of None takes its key away."""
    tree, style = _read(text)
    destinations = _part(tree, "destinations", CommentedMap())
    with comments_kept(destinations):
        _apply(destinations.setdefault(name, CommentedMap()), fields)
    return _written(tree, style, text)


def remove_destination(text: str, name: str) -> str:
    """Take a destination away; RoutingError when a rule still sends to it."""
    tree, style = _read(text)
    destinations = _part(tree, "destinations", CommentedMap())
    if name not in destinations:
        raise NotFound(f"there is no destination {name}", remedy="brookbox routing show")
    using = [str(rule.get("name")) for rule in _rules(tree) if name in _names(rule.get("to"))]
    if using:
        raise RoutingError(
            f"destination {name} is still used by: {', '.join(using)}.",
            remedy="remove or change these rules first",
        )
    with comments_kept(destinations):
        del destinations[name]
    return _written(tree, style, text)


def add_rule(text: str, fields: Fields, position: int | None = None) -> str:
    """Add a rule, last or at a position counted from 1."""
    tree, style = _read(text)
    rules = _rules(tree)
    rule = CommentedMap()
    _apply(rule, fields)
    with comments_kept(rules):
        rules.insert(len(rules) if position is None else max(position - 1, 0), rule)
    return _written(tree, style, text)


def change_rule(text: str, name: str, fields: Fields) -> str:
    """Change keys of a rule; a value of None takes its key away."""
    tree, style = _read(text)
    rules = _rules(tree)
    with comments_kept(rules):
        _apply(rules[_index(rules, name)], fields)
    return _written(tree, style, text)


def remove_rule(text: str, name: str) -> str:
    """Take a rule away."""
    tree, style = _read(text)
    rules = _rules(tree)
    with comments_kept(rules):
        del rules[_index(rules, name)]
    return _written(tree, style, text)


def move_rule(text: str, name: str, position: int) -> str:
    """Move a rule to a position counted from 1; the rules are applied in order."""
    tree, style = _read(text)
    rules = _rules(tree)
    with comments_kept(rules):
        rules.insert(max(position - 1, 0), rules.pop(_index(rules, name)))
    return _written(tree, style, text)


def enable_rule(text: str, name: str, enabled: bool) -> str:
    """Switch a rule on or off; it keeps its place."""
    return change_rule(text, name, {"enabled": None if enabled else False})


def _read(text: str) -> tuple[CommentedMap, YAML]:
    style = YAML(typ="rt")
    style.preserve_quotes = True
    style.width = 4096
    offset = _dash_offset(text)
    style.indent(mapping=2, sequence=offset + 2, offset=offset)
    try:
        tree = style.load(text)
    except YAMLError as error:
        raise RoutingError(
            f"routing.yaml is not YAML just now: {error}", remedy="brookbox routing check"
        ) from error
    return (tree if isinstance(tree, CommentedMap) else CommentedMap()), style


def _dash_offset(text: str) -> int:
    """Find how far the writer of the text sets dashes in; two blanks where there is none."""
    for line in text.splitlines():
        if line.lstrip().startswith("- "):
            return min(len(line) - len(line.lstrip()), 8)
    return 2


def _written(tree: CommentedMap, style: YAML, before: str) -> str:
    out = io.StringIO()
    style.dump(tree, out)
    text = out.getvalue()
    only_comments = all(line.lstrip()[:1] in ("", "#") for line in before.splitlines())
    if only_comments and before.strip():  # ruamel drops comments that no value follows
        return before.rstrip("\n") + "\n\n" + text
    return text


def _part(tree: CommentedMap, name: str, empty: Any) -> Any:
    if tree.get(name) is None:
        tree[name] = empty
    return tree[name]


def _rules(tree: CommentedMap) -> CommentedSeq:
    rules: CommentedSeq = _part(tree, "rules", CommentedSeq())
    return rules


def _index(rules: CommentedSeq, name: str) -> int:
    for at, rule in enumerate(rules):
        if str(rule.get("name")) == name:
            return at
    raise NotFound(f"there is no rule {name}", remedy="brookbox routing show")


def _names(to: Any) -> list[str]:
    return [str(one) for one in to] if isinstance(to, list) else [str(to)]


def _apply(target: CommentedMap, fields: Fields) -> None:
    for key, value in fields.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = _plain(value)


def _plain(value: Any) -> Any:
    """Write short lists on one line; tuples are lists in YAML."""
    if isinstance(value, list | tuple):
        made = CommentedSeq([_plain(one) for one in value])
        made.fa.set_flow_style()
        return made
    if isinstance(value, Mapping):
        made_map = CommentedMap({key: _plain(one) for key, one in value.items()})
        made_map.fa.set_flow_style()
        return made_map
    return value
