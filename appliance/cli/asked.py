"""What stands before the command: which settings, and for whom the answer is."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance import settings_file
from appliance.settings import Settings

if TYPE_CHECKING:
    from appliance.index.database import Database


@dataclass(frozen=True, slots=True)
class Asked:
    """The global options of one call."""

    config: Path | None = None
    home: Path | None = None
    as_json: bool = False

    def settings(self) -> Settings:
        """Read the settings; SettingsError with every mistake."""
        return settings_file.load(self.config, self.home)

    def open_index(self) -> Database:
        """Open the node's index for a question or an act of a person."""
        from appliance.index.database import open_index

        return open_index(self.settings())


pass_asked = click.make_pass_decorator(Asked, ensure=True)


def confirm(question: str, *, yes: bool) -> None:
    """Go on only when the person at the terminal says so, or said --yes.

    Without a terminal nobody can answer: that is a misuse (exit 2), not a no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here: say --yes.")
    click.confirm(question, abort=True, err=True)


def who() -> str:
    """Name the person at this terminal, as the events keep it."""
    import getpass

    return f"{getpass.getuser()} (command line)"
