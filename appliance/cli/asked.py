"""What stands before the command: which settings, and for whom the answer is."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from appliance import settings_file
from appliance.errors import NoIndex, SettingsError, explain
from appliance.settings import Settings

if TYPE_CHECKING:
    from appliance.index.database import Database


@dataclass(frozen=True)
class Asked:
    """The global options of one call."""

    config: Path | None = None
    home: Path | None = None
    as_json: bool = False

    def settings(self) -> Settings:
        """Give the settings; while they have mistakes, after a note, those of the running node.

        SettingsError with every mistake when no node runs.
        """
        return self._settings

    def good_settings(self) -> Settings:
        """Read the settings; SettingsError with every mistake, whatever runs."""
        return settings_file.load(self.config, self.home)

    def settings_in_force(self) -> Settings | None:
        """Give the settings that the running node works with; None when none runs."""
        from appliance.cli.in_force import of_running_node

        return of_running_node(self.config, self.home)

    @functools.cached_property
    def _settings(self) -> Settings:
        try:
            return self.good_settings()
        except SettingsError as error:
            found = self.settings_in_force()
            if found is None:
                raise
            print(f"{explain(error)}\n{GOES_ON}", file=sys.stderr)
            return found

    def open_index(self) -> Database:
        """Open the node's index for a question or an act of a person.

        NodeError, as `brookbox up` has it, when it is lost while studies stand here.
        """
        from appliance.cli.prepare import refuse_lost
        from appliance.index.database import open_index

        try:
            return open_index(self.settings())
        except NoIndex:
            refuse_lost(self.settings())
            raise


GOES_ON = "Until then the node that runs goes on with the settings that it had; here they are used."


class NobodyToAsk(click.ClickException):
    """A person was to be asked, and there is no terminal: a misuse, though not of the words."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence alone: how the command is written was not wrong."""
        click.echo(self.message, file=file, err=True)


pass_asked = click.make_pass_decorator(Asked, ensure=True)


def confirm(question: str, *, yes: bool) -> None:
    """Go on only when the person at the terminal says so, or said --yes.

    Without a terminal nobody can answer: that is a misuse (exit 2), not a no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise NobodyToAsk(f"{question} Nobody can be asked here: say --yes.")
    click.confirm(question, abort=True, err=True)


def who() -> str:
    """Name the person at this terminal, as the events keep it."""
    import getpass

    return f"{getpass.getuser()} (command line)"
