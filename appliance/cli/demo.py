"""`brookbox demo`: a phantom study goes to MONTAGE, and its result comes back to a small PACS.

It is a peer of the running node like any other: it sends by C-STORE, listens by
itself, and reads the index only to tell what happens.  The route that it needs is
added to routing.yaml and taken away again; of its files only the result is left, which
its last line names.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

import click

from appliance.amounts import count
from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked
from appliance.errors import BrookboxError, NotFound, PeerError, RoutingChanged, RoutingError
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
    """Print each step with the seconds since the demo began; a program gets them at the end."""

    as_json: bool
    began: float = field(default_factory=time.monotonic)
    steps: list[dict[str, object]] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        seconds = round(time.monotonic() - self.began, 1)
        self.steps.append({"seconds": seconds, "sentence": sentence})
        if not self.as_json:
            click.echo(f"{seconds:6.1f} s  {sentence}")


@click.command()
@click.option("--seconds", default=120.0, help="Patience for the result.")
@pass_asked
def demo(asked: Asked, seconds: float) -> int:
    """Send a phantom CT study to MONTAGE, and receive the result as a PACS would."""
    from appliance.cli.phantom import write_phantom

    settings, teller = asked.settings(), _Teller(asked.as_json)
    db = asked.open_index()
    _need_the_node(settings)
    arrived: Queue[Path] = Queue()
    with _work_folder() as folder, _pacs(folder, arrived) as port, _route(settings, port):
        teller.say(f"A demo PACS listens on 127.0.0.1:{port} as {_PACS}, and a rule routes to it.")
        files, study_uid = write_phantom(folder / "phantom", _SLICES)
        teller.say(f"A phantom CT study of {len(files)} slices was made.")
        _send(settings, files)
        teller.say(f"It was sent to {_STREAM} by C-STORE; every slice was answered with success.")
        job = _watch(db, study_uid, teller, seconds)
        kept = _keep(_wait_for_result(arrived, teller, seconds))
    teller.say("The result came back to the demo PACS, which has stopped; its rule is gone.")
    if asked.as_json:
        show.as_json({"job": job.id, "study": study_uid, "result": kept, "steps": teller.steps})
        return 0
    click.echo(f"Look at the job: http://127.0.0.1:{settings.web.port}/jobs/{job.id}")
    click.echo(f"Look at its log: brookbox jobs log {job.id}")
    click.echo(f"Look at the result, the only file that the demo leaves here: {kept}")
    return 0


@contextmanager
def _work_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="brookbox-demo-") as name:
        yield Path(name)


def _keep(result: Path) -> Path:
    """Move the picture to where a person may look at it when all else is removed."""
    folder = Path(tempfile.mkdtemp(prefix="brookbox-demo-"))
    return Path(shutil.move(result, folder / "montage.dcm"))


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
    """Have the results of the demo sent to the demo PACS, as long as the demo runs.

    Afterwards routing.yaml is what it was; changes that a person made meanwhile stay.
    """
    from appliance.router import edit, routing_file

    # There is none, unless a demo was killed in its middle.
    with suppress(NotFound, RoutingError):
        edit.change(settings, _without_route, _RULE, datetime.now(UTC))
    before = edit.load(settings)
    routed = _with_route(before.text, port)
    edit.save(settings, routed, before.digest, _RULE, datetime.now(UTC))
    try:
        yield
    finally:
        ours = routing_file.digest_of(routed)
        try:
            edit.save(settings, before.text, ours, _RULE, datetime.now(UTC))
        except RoutingChanged:
            edit.change(settings, _without_route, _RULE, datetime.now(UTC))


def _with_route(text: str, port: int) -> str:
    from appliance.router import edit_text

    facts = {"ae_title": _PACS, "host": "127.0.0.1", "port": port}
    rule = {"name": _RULE, "calling": _SENDER, "to": [_DESTINATION], "stop": True}
    return edit_text.add_rule(edit_text.put_destination(text, _DESTINATION, facts), rule, 1)


def _without_route(text: str) -> str:
    from appliance.router import edit_text

    return edit_text.remove_destination(edit_text.remove_rule(text, _RULE), _DESTINATION)


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
    return f"Job {job.id} {job.state} with {count(job.result_count, 'result')}."


def _wait_for_result(arrived: Queue[Path], teller: _Teller, seconds: float) -> Path:
    try:
        return arrived.get(timeout=max(1.0, seconds - (time.monotonic() - teller.began)))
    except Empty:
        raise PeerError(
            "the result did not come back to the demo PACS", remedy="brookbox deliveries list"
        ) from None
