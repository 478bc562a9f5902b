"""Comments between the parts of a YAML text, while parts come, go and move.

ruamel.yaml hangs a comment on the last value before it.  People write it above what
follows, or below everything; so before an edit the comments are taken off, and after
it each is put above the same part again, wherever that stands now.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.tokens import CommentToken

Holder = CommentedMap | CommentedSeq


@contextlib.contextmanager
def comments_kept(parts: Holder) -> Iterator[None]:
    """Edit the parts of a mapping or a list inside; comments of removed ones stay too."""
    keys = _keys(parts)
    order = [id(parts[key]) for key in keys]
    tails = [_take(parts, key) for key in keys]
    above = dict(zip(order[1:], tails[:-1], strict=True)) if keys else {}
    below = tails[-1] if tails else ""
    yield
    left = {id(parts[key]) for key in _keys(parts)}
    waiting = ""
    for one in order:  # what was above a removed part goes above the next one
        if one not in left:
            waiting += above.pop(one, "")
        elif waiting:
            above[one], waiting = waiting + above.get(one, ""), ""
    _put_back(parts, above, waiting + below)


def _put_back(parts: Holder, above: dict[int, str], below: str) -> None:
    keys = _keys(parts)
    for key, following in itertools.pairwise(keys):
        _give(parts, key, above.get(id(parts[following]), ""))
    if not keys:
        return
    _give(parts, keys[-1], below)
    if first := above.get(id(parts[keys[0]]), ""):
        lines = [line.strip().removeprefix("#").removeprefix(" ") for line in first.splitlines()]
        if words := "\n".join(line for line in lines if line):
            indent = parts.lc.col or 0
            parts.yaml_set_comment_before_after_key(keys[0], before=words, indent=indent)


def _keys(parts: Holder) -> list[Any]:
    return list(parts) if isinstance(parts, CommentedMap) else list(range(len(parts)))


def _slot(parts: Holder, key: Any) -> tuple[Holder, Any]:
    """Find the last value inside a part: the comment after the part hangs on it."""
    value = parts[key]
    if isinstance(value, CommentedMap | CommentedSeq) and value and not value.fa.flow_style():
        return _slot(value, _keys(value)[-1])
    return parts, key


def _place(holder: Holder) -> int:
    return 2 if isinstance(holder, CommentedMap) else 0


def _take(parts: Holder, key: Any) -> str:
    """Take off what stands below a part, but not the comment at the end of its last line."""
    holder, inner = _slot(parts, key)
    tokens = holder.ca.items.get(inner)
    token = tokens[_place(holder)] if tokens else None
    if token is None:
        return ""
    line, _, below = token.value.partition("\n")
    if line:
        token.value = line + "\n"
    else:
        tokens[_place(holder)] = None
    return str(below)


def _give(parts: Holder, key: Any, below: str) -> None:
    if not below:
        return
    holder, inner = _slot(parts, key)
    tokens = holder.ca.items.setdefault(inner, [None, None, None, None])
    token = tokens[_place(holder)]
    if token is None:
        tokens[_place(holder)] = CommentToken("\n" + below, start_mark=CommentMark(0))
    else:
        token.value += below
