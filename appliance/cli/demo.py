"""`brookbox demo`: a phantom study goes to MONTAGE, and its result comes back to a small PACS.

It is a peer of the running node like any other: it sends by C-STORE, listens by
itself, and reads the index only to tell what happens.  The route that it needs is
added to routing.yaml and taken away again.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.asked import Asked, pass_asked
from appliance.errors import BrookboxError, PeerError
from appliance.settings import Settings

if TYPE_CHECKING:
    from appliance.index.database import Database
    from appliance.index.jobs import Job

_STREAM = "MONTAGE"
_SENDER = "DEMO-SCANNER"
_PACS = "DEMO-PACS"
_RULE = "brookbox demo"
_DESTINATION = "brookbox-demo"
_SLICES = 24


@dataclass
class _Teller:
    """Print each step with the seconds since the demo began."""

    began: float = field(default_factory=time.monotonic)

    def say(self, sentence: str) -> None:
        click.echo(f"{time.monotonic() - self.began:6.1f} s  {sentence}")


@click.command()
@click.option("--seconds", default=120.0, help="Patience for the result.")
@pass_asked
def demo(asked: Asked, seconds: float) -> int:
    """Send a phantom CT study to MONTAGE, and receive the result as a PACS would."""
    from appliance.cli.phantom import write_phantom

    settings, teller = asked.settings(), _Teller()
    db = asked.open_index()
    _need_the_node(settings)
    arrived: Queue[Path] = Queue()
    folder = Path(tempfile.mkdtemp(prefix="brookbox-demo-"))
    with _pacs(folder, arrived) as port, _route(settings, port):
        teller.say(f"A demo PACS listens on 127.0.0.1:{port} as {_PACS}, and a rule routes to it.")
        files, study_uid = write_phantom(folder / "phantom", _SLICES)
        teller.say(f"A phantom CT study of {len(files)} slices was made.")
        _send(settings, files)
        teller.say(f"It was sent to {_STREAM} by C-STORE; every slice was answered with success.")
        job = _watch(db, study_uid, teller, seconds)
        result = _wait_for_result(arrived, teller, seconds)
    teller.say(f"The result came back to the demo PACS: {result}")
    click.echo(f"Look at the job: http://127.0.0.1:{settings.web.port}/jobs/{job.id}")
    click.echo(f"Look at its log: brookbox jobs log {job.id}")
    return 0


def _need_the_node(settings: Settings) -> None:
    from appliance.router.echo import test_destination

    steps = test_destination(_node(settings), settings)
    if not all(step.is_good for step in steps):
        raise PeerError(
            f"the node does not answer on port {settings.receiver.port}: {steps[-1].sentence}",
            remedy="start it in another terminal: make run (or: brookbox up)",
        )


def _node(settings: Settings) -> Any:
    from appliance.router.rules import Destination

    return Destination("node", _STREAM, "127.0.0.1", settings.receiver.port, _SENDER)


@contextmanager
def _pacs(folder: Path, arrived: Queue[Path]) -> Iterator[int]:
    """Listen as a PACS on a free port of loopback; give the port."""
    from pynetdicom import AE, StoragePresentationContexts, evt

    def keep(event: Any) -> int:
        path = folder / f"{event.request.AffectedSOPInstanceUID}.dcm"
        path.write_bytes(event.encoded_dataset())
        arrived.put(path)
        return 0x0000

    pacs = AE(_PACS)
    pacs.supported_contexts = StoragePresentationContexts
    server = pacs.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)]
    )
    assert server is not None, "a server that does not block is given back"
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@contextmanager
def _route(settings: Settings, port: int) -> Iterator[None]:
    """Have the results of the demo sent to the demo PACS, as long as the demo runs."""
    from appliance.router import edit, edit_text

    def change(one: Any) -> None:
        edit.change(settings, one, "brookbox demo", datetime.now(UTC))

    facts = {"ae_title": _PACS, "host": "127.0.0.1", "port": port}
    rule = {"name": _RULE, "calling": _SENDER, "to": [_DESTINATION], "stop": True}
    with _ignoring_missing():
        change(lambda text: edit_text.remove_rule(text, _RULE))
    change(functools.partial(edit_text.put_destination, name=_DESTINATION, fields=facts))
    change(functools.partial(edit_text.add_rule, fields=rule, position=1))
    try:
        yield
    finally:
        change(functools.partial(edit_text.remove_rule, name=_RULE))
        change(functools.partial(edit_text.remove_destination, name=_DESTINATION))


@contextmanager
def _ignoring_missing() -> Iterator[None]:
    from appliance.errors import NotFound, RoutingError

    try:
        yield
    except (NotFound, RoutingError):  # there was none: no demo was stopped in its middle
        return


def _send(settings: Settings, files: list[Path]) -> None:
    from appliance.router.send_files import send_files
    from appliance.router.store_scu import SENT

    results = send_files(files, _node(settings), settings)
    failed = [one for one in results if one.kind != SENT]
    if failed:
        raise PeerError(
            f"the node did not take the study: {failed[0].sentence}", remedy="brookbox doctor"
        )


def _watch(db: Database, study_uid: str, teller: _Teller, seconds: float) -> Job:
    """Tell the states of the study's job until it ended well."""
    told = ""
    while time.monotonic() - teller.began < seconds:
        job = _job_of(db, study_uid)
        state = "" if job is None else f"{job.state} {job.wait_reason}"
        if job is not None and state != told:
            told = state
            teller.say(_sentence(job))
            if job.state in ("succeeded", "partial"):
                return job
            if job.state in ("failed", "cancelled"):
                raise BrookboxError(f"job {job.id} {job.state}: {job.reason}", remedy=job.remedy)
        time.sleep(0.1)
    raise BrookboxError(
        f"after {seconds:g} s the job had not ended", remedy=f"brookbox why {study_uid}"
    )


def _job_of(db: Database, study_uid: str) -> Job | None:
    from appliance.index import job_list

    with db.read() as connection:
        found = job_list.jobs_matching(connection, job_list.Filter(study_uid=study_uid), 1)
    return found[0] if found else None


def _sentence(job: Job) -> str:
    if job.state == "queued":
        waits = f" ({job.wait_reason})" if job.wait_reason else ""
        return f"The study was complete and became job {job.id}{waits}."
    if job.state == "running":
        how = "as a container" if job.executor == "container" else "as a plain process"
        return f"Job {job.id} runs{' ' + how if job.executor else ''}."
    return f"Job {job.id} {job.state} with {job.result_count} result(s)."


def _wait_for_result(arrived: Queue[Path], teller: _Teller, seconds: float) -> Path:
    try:
        return arrived.get(timeout=max(1.0, seconds - (time.monotonic() - teller.began)))
    except Empty:
        raise PeerError(
            "the result did not come back to the demo PACS", remedy="brookbox deliveries list"
        ) from None
