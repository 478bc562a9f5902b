"""Values of routing.yaml, checked one by one where they stand.

Each reader takes a YAML node and a `say`, to which it tells every mistake with the
node it stands in; it gives None then.  Text is taken as it is written: the AE title
NO is "NO" and not false, 007 is "007".
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword

from appliance.dicom.names import is_ae_title
from appliance.router.rules import TagTest

Say = Callable[[yaml.Node, str], None]
Reader = Callable[[yaml.Node, Say], Any]

_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),? ?([0-9A-Fa-f]{4})\)?")
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MANY_CHARACTERS = 200


def text(node: yaml.Node, say: Say) -> str | None:
    """Read a line of text of at most 200 characters."""
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        say(node, "must be text.")
        return None
    plain = str(node.value).strip()
    if len(plain) > _MANY_CHARACTERS or not plain.isprintable():
        say(node, f"must be one line of at most {_MANY_CHARACTERS} printable characters.")
        return None
    return plain


def ae_title(node: yaml.Node, say: Say) -> str | None:
    """Read an AE title (PS3.5 6.2)."""
    plain = text(node, say)
    if plain is not None and not is_ae_title(plain):
        say(node, f"must be 1 to 16 printable ASCII characters, no backslash: {plain!r}.")
        return None
    return plain


def host(node: yaml.Node, say: Say) -> str | None:
    """Read a host name or an address."""
    plain = text(node, say)
    if plain is not None and not _HOST.fullmatch(plain):
        say(node, f"must be a host name or an address, without port: {plain!r}.")
        return None
    return plain


def network(node: yaml.Node, say: Say) -> str | None:
    """Read an address or a network, such as 10.1.0.0/16."""
    plain = text(node, say)
    try:
        return str(ipaddress.ip_network(plain, strict=False)) if plain else None
    except ValueError:
        say(node, f"must be an address or a network such as 10.1.0.0/16: {plain!r}.")
        return None


def pattern(node: yaml.Node, say: Say) -> re.Pattern[str] | None:
    """Read a regular expression."""
    plain = text(node, say)
    try:
        return re.compile(plain) if plain is not None else None
    except re.error as error:
        say(node, f"is not a regular expression: {error}.")
        return None


def truth(node: yaml.Node, say: Say) -> bool | None:
    """Read true or false."""
    value = _TRUTHS.get(str(node.value).lower())
    if value is None:
        say(node, "must be true or false.")
    return value


def number(low: float, high: float, *, whole: bool = True) -> Reader:
    """Make a reader of numbers within limits."""

    def read(node: yaml.Node, say: Say) -> float | None:
        try:
            value = int(str(node.value)) if whole else float(str(node.value))
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            say(node, f"must be {kind} from {low:g} to {high:g}.")
            return None
        return value

    return read


def choice(choices: tuple[str, ...]) -> Reader:
    """Make a reader of one of a few words."""

    def read(node: yaml.Node, say: Say) -> str | None:
        if node.value in choices:
            return str(node.value)
        say(node, f"must be one of {', '.join(choices)}.{meant(str(node.value), choices)}")
        return None

    return read


def list_of(reader: Reader) -> Reader:
    """Make a reader of a list; a single value is a list of one."""

    def read(node: yaml.Node, say: Say) -> tuple[Any, ...] | None:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        values = [reader(one, say) for one in nodes]
        if not nodes:
            say(node, "must not be an empty list.")
        return tuple(values) if nodes and None not in values else None

    return read


def tag_tests(node: yaml.Node, say: Say) -> tuple[TagTest, ...] | None:
    """Read one object of tags and regular expressions."""
    if not isinstance(node, yaml.MappingNode) or not node.value:
        say(node, "must hold tags and regular expressions, such as {Modality: CT}.")
        return None
    tests = [_tag_test(key, value, say) for key, value in node.value]
    return tuple(test for test in tests if test) if None not in tests else None


def mapping(
    node: yaml.Node, readers: Mapping[str, Reader], path: str, say: Say
) -> dict[str, Any] | None:
    """Read a mapping of known keys; keys without value are left out, wrong ones are None.

    None when it is no mapping at all.
    """
    if not isinstance(node, yaml.MappingNode):
        say(node, f"{path} must hold keys and values: {', '.join(readers)}.")
        return None
    values: dict[str, Any] = {}
    for key, value in node.value:
        if key.value not in readers:
            say(key, f"{path} has no key {key.value}.{meant(str(key.value), readers)}")
        elif key.value in values:
            say(key, f"{path}.{key.value} stands here a second time.")
        elif not is_empty(value):
            values[key.value] = readers[key.value](value, _saying(f"{path}.{key.value}", say))
    return values


def is_empty(node: yaml.Node) -> bool:
    """Say whether nothing is written there, or null."""
    return bool(node.tag == "tag:yaml.org,2002:null")


def meant(name: str, known: Iterable[str]) -> str:
    """Guess what was meant, as a sentence after a blank; "" when nothing is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


def _saying(path: str, say: Say) -> Say:
    return lambda node, sentence: say(node, f"{path} {sentence}")


def _tag_test(key: yaml.Node, value: yaml.Node, say: Say) -> TagTest | None:
    name = str(key.value)
    found = _TAG.fullmatch(name)
    tag = int(found[1] + found[2], 16) if found else tag_for_keyword(name)
    if tag is None:
        say(key, f"names no tag: {name}.{meant(name, keyword_dict)}")
        return None
    if _is_sequence(tag):
        say(key, f"names the sequence {name}, whose value is no text.")
        return None
    expression = pattern(value, _saying(name, say))
    return TagTest(tag, name, expression) if expression else None


def _is_sequence(tag: int) -> bool:
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False
