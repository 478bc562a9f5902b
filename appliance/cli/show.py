"""Answers: a table or lines for a person, one JSON document for a program.

Data goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from appliance.amounts import plural

_UNREADABLE_WIDTH = 200  # of a table that no terminal shows


def as_json(answer: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(_plain(answer), ensure_ascii=False, indent=2))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print a table, or `empty` when there is no row."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*(escape(printable(cell)) for cell in row))
    if not made.rows:
        click.echo(empty)
        return
    Console(width=None if sys.stdout.isatty() else _UNREADABLE_WIDTH, highlight=False).print(made)


def nothing_of(thing: str, *, is_filtered: bool) -> str:
    """Say that a list is empty: since nothing matches, or since there is nothing yet."""
    return f"No {thing} matches." if is_filtered else f"There are no {plural(thing)} yet."


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line; empty values are left out."""
    known = [(name, printable(value)) for name, value in pairs if value not in (None, "", ())]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        click.echo(f"{name.ljust(width)}  {value}")


def printable(value: object) -> str:
    """Give text of one line: times to the second, no control characters."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return "".join(c if c.isprintable() else " " for c in str(value))


def note(sentence: str) -> None:
    """Say something that is not the answer."""
    click.echo(sentence, err=True)


def complain(path: Path, why: str) -> None:
    """Say of one file what is wrong with it; the work goes on without it."""
    note(f"{printable(path)}: {why}")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value
