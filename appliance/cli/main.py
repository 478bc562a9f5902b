"""The `brookbox` command: global options, and one lazily imported module for each noun.

Nothing is imported before it is needed: a process that runs for months must not
hold what only `brookbox status` uses.  Exit code 0 is done, 1 failed, 2 misused.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import appliance
from appliance.cli import show
from appliance.cli.asked import Asked, NobodyToAsk
from appliance.errors import BrookboxError, explain

PROCESSES = {
    "receiver": ("appliance.receiver.service", "Receive instances by C-STORE (Storage SCP)."),
    "dispatcher": ("appliance.dispatcher.service", "Close arrivals that are whole, make jobs."),
    "worker": ("appliance.worker.service", "Run the streams' jobs."),
    "router": ("appliance.router.service", "Send results on by C-STORE."),
    "housekeeper": ("appliance.housekeeper.service", "Make room, back up, restart what hangs."),
    "web": ("web.service", "Serve the pages and the API."),
}

# command: (module, attribute, one line for --help)
COMMANDS = {
    "up": ("up", "up", "Start the node in the foreground; Ctrl-C stops all of it."),
    "demo": ("demo", "demo", "Send a phantom study, and see its result come back."),
    "status": ("status", "status", "What runs, what waits, and what hinders it."),
    "doctor": ("doctor", "doctor", "Look for what is wrong, and say what to type next."),
    "why": ("why", "why", "Tell what happened to a study, a job or an AE title."),
    "config": ("config", "config", "The settings: check, show, sample, reload."),
    "streams": ("streams", "streams", "The streams: list, new, check, build, pull, load, run."),
    "jobs": ("jobs", "jobs", "The jobs: list, show, log, cancel, retry, run-again, release."),
    "arrivals": ("arrivals", "arrivals", "The arrivals: list."),
    "deliveries": ("deliveries", "deliveries", "The deliveries: list, show, resend, route-again."),
    "routing": ("routing", "routing", "The routing rules: show, check, test, history, restore."),
    "send": ("send", "send", "Send to another DICOM node: echo, store."),
    "index": ("index", "index", "The index: check, rebuild, adopt, migrate-status."),
    "backup": ("backup", "backup", "Back up index and settings into a folder."),
    "restore": ("backup", "restore", "Put a backup back."),
    "forget": ("forget", "forget", "Erase a patient or a study for good."),
    "quarantine": (
        "quarantine",
        "quarantine",
        "What could not be kept: list, show, get, retry, take-in, remove.",
    ),
    "alerts": ("alerts", "alerts", "What is wrong with the node: list, test."),
    "events": ("events", "events", "Who did what to which study."),
    "conformance": ("conformance", "conformance", "Print this node's DICOM conformance statement."),
    "housekeeper-confirm": (
        "housekeeper",
        "confirm",
        "Let the housekeeper remove again after the clock jumped.",
    ),
}


class _Lazy(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *PROCESSES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in PROCESSES:
            return _process(cmd_name)
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"appliance.cli.{module}"), attribute)
        _end_of_imports()
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            # click knows what was meant only among commands that are imported already.
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not close:
                raise
            raise click.UsageError(f"{error.message} Did you mean '{close[0]}'?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])
        with formatter.section("One process each, as `brookbox up` starts them"):
            formatter.write_dl([(name, line) for name, (_, line) in PROCESSES.items()])


def _say_version(ctx: click.Context, option: click.Parameter, is_asked: bool) -> None:
    if not is_asked:
        return
    if ctx.params.get("as_json"):
        show.as_json({"version": appliance.__version__})
    else:
        click.echo(appliance.__version__)
    ctx.exit()


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Where --json stands does not matter: it makes any answer and any error one JSON "
    "document on standard output, this help excepted.",
)
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.")
@click.option("--home", type=click.Path(path_type=Path), help="The folder the node works in.")
@click.option("--json", "as_json", is_flag=True, is_eager=True, help="Answer in JSON.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the version.",
)
@click.pass_context
def brookbox(ctx: click.Context, config: Path | None, home: Path | None, as_json: bool) -> None:
    """Brookbox: studies come in by C-STORE, streams work on them, results go back."""
    ctx.obj = Asked(config, home, as_json)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; give its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    if as_json:
        words = ["--json", *(word for word in words if word != "--json")]
    try:
        code = _run(words, as_json)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, such as `head`, has enough; Python must not complain at its exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(words: list[str], as_json: bool) -> int:
    try:
        code = brookbox.main(words, prog_name="brookbox", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (click.ClickException, click.Abort, BrookboxError) as error:
        if as_json:
            show.as_json(_document(error))
        elif isinstance(error, click.ClickException):
            error.show()
        else:
            said = explain(error) if isinstance(error, BrookboxError) else "stopped"
            print(said, file=sys.stderr)
        return error.exit_code if isinstance(error, click.ClickException) else 1


def _document(error: click.ClickException | click.Abort | BrookboxError) -> dict[str, str]:
    """Give an error as the one JSON document that a program is answered with."""
    if isinstance(error, BrookboxError):
        return {"error": str(error), "remedy": error.remedy}
    if isinstance(error, click.Abort):
        return {"error": "stopped", "remedy": ""}
    if isinstance(error, NobodyToAsk):
        return {"error": error.message, "remedy": "--yes"}
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
    remedy = f"{path or 'brookbox'} --help"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return {"error": "No command is named.", "remedy": remedy}
    return {"error": error.format_message(), "remedy": remedy}


def unneeded(process: str) -> set[str]:
    """Name libraries that others import when they find them, and that this process never uses.

    pydicom takes numpy (11 MB), requests (5 MB) and what decodes pixels (4 MB), structlog
    takes rich (4 MB).
    """
    decoders = {"PIL", "pylibjpeg", "openjpeg", "libjpeg", "rle", "jpeg_ls", "gdcm"}
    ours = set() if process == "worker" else {"requests"}
    return {"numpy", "rich", *decoders, *ours}


def _process(name: str) -> click.Command:
    module, line = PROCESSES[name]

    @click.command(name, help=line)
    @click.pass_obj
    def run(asked: Asked) -> int:
        settings = asked.settings()
        for library in unneeded(name):
            sys.modules.setdefault(library, None)  # type: ignore[arg-type]
        service = importlib.import_module(module)
        _end_of_imports()
        code: int = service.run(settings)
        return code

    return run


def _end_of_imports() -> None:
    """Look for garbage from now on, though not among what was imported: it stays to the end.

    Forked processes then share those pages, since nothing writes into them.
    """
    if not gc.isenabled():  # as `python -m appliance.cli` begins; not inside another program
        gc.freeze()
        gc.enable()
