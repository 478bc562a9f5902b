"""The last full table in benchmarks/README.md, between two marks, with machine and date."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.plan import NotMeasured
from benchmarks.rows import HEAD, Row, cells

BEGIN, END = "<!-- the last full table: made by make bench -->", "<!-- its end -->"


def write(file: Path, about: str, rows: Sequence[Row], said: str) -> None:
    """Put rows, and what benchmarks without rows said, between the marks of a file."""
    before, begin, rest = file.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NotMeasured(f"{file} lacks the marks {BEGIN} and {END}")
    blocks = [_fenced(about), _table(rows), _notes(rows), _fenced(said) if said else ""]
    table = "\n\n".join(one for one in blocks if one)
    part = file.with_name(f"{file.name}.part")
    part.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")
    part.replace(file)


def _table(rows: Sequence[Row]) -> str:
    lines = [HEAD, ("---",) * len(HEAD), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _notes(rows: Sequence[Row]) -> str:
    """Say for each row with whom it was compared, by whom both were sent to, and what else."""
    lines = []
    for row in rows:
        more = "".join(f"; {name.replace('_', ' ')} {value}" for name, value in row.more.items())
        lines.append(f"* {row.case}, {row.peer}: `{row.command}`; sender: {row.sender}{more}")
    ours = dict.fromkeys(row.our_command for row in rows)
    return "\n".join([*lines, "", "Ours:", "", *(f"* `{command}`" for command in ours)])


def _fenced(text: str) -> str:
    return f"```\n{text.strip()}\n```"
