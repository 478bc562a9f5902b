"""One file in quarantine: why it is there, beside what is kept; what a person may do with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Blueprint, g, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from appliance.dicom.statuses import store_status
from appliance.disk import quarantine as kept
from appliance.disk.quarantine import Entry, Kind
from web.downloads import send_file
from web.frame import page
from web.job_files import OutputFile
from web.node import node

if TYPE_CHECKING:
    from appliance.health.side_by_side import Elements, Pair
    from appliance.intake.again import Tried

quarantined = Blueprint("quarantined", __name__)

_CONFIRM = {
    "remove": (
        "Remove this file for good?",
        "Its bytes are gone then. Whoever sent it has to send it again.",
        "Remove for good",
    ),
    "take-in": (
        "Take it in all the same?",
        "It joins the study and the series of its UIDs, though the values below differ. "
        "From then on both are shown, sent and worked on as one study of one patient.",
        "Take it in all the same",
    ),
}


@dataclass(frozen=True, slots=True)
class QuarantinedPage:
    """One entry, and its values beside those of what is kept."""

    entry: Entry
    pairs: tuple[Pair, ...]
    elements: Elements

    @property
    def may_be_taken_in(self) -> bool:
        """Say whether a person's word is what it waits for."""
        return self.entry.kind is Kind.HELD


@quarantined.get("/quarantine/<id>")
def show(id: str) -> ResponseReturnValue:
    """Show one."""
    return page("quarantined.html", page=_read(id), store_status=store_status)


@quarantined.get("/api/v1/quarantine/<id>")
def show_json(id: str) -> ResponseReturnValue:
    """Give one to a program."""
    found = _read(id)
    values = [{"what": p.what, "kept": p.kept, "came": p.came, "differs": p.differs}
              for p in found.pairs]  # fmt: skip
    return jsonify(
        entry=found.entry, side_by_side=values, elements=found.elements,
        may_be_taken_in=found.may_be_taken_in,
    )  # fmt: skip


@quarantined.get("/quarantine/<id>/file")
def download(id: str) -> Response:
    """Send its bytes, to be saved and never to be shown."""
    layout = node().layout
    entry, path = kept.read(layout, id), kept.file_of(layout, id)
    output = OutputFile(path.name, "", entry.size_bytes, 0)
    return send_file(path.parent, output, f"{entry.id}.dcm", "application/dicom")


@quarantined.post("/quarantine/<id>/retry")
def retry(id: str) -> ResponseReturnValue:
    """Try it again, and show what came of it."""
    return _show_tried(_try(id, accept_identity=False))


@quarantined.post("/api/v1/quarantine/<id>/retry")
def retry_json(id: str) -> ResponseReturnValue:
    """Do it for a program; 409 when it stays."""
    return _answer(_try(id, accept_identity=False))


@quarantined.post("/quarantine/<id>/take-in")
def take_in(id: str) -> ResponseReturnValue:
    """Take a held one in, once the person has said so twice."""
    if request.form.get("confirm") != "yes":
        return _ask(id, "take-in")
    return _show_tried(_try(id, accept_identity=True))


@quarantined.post("/api/v1/quarantine/<id>/take-in")
def take_in_json(id: str) -> ResponseReturnValue:
    """Do it for a program, which was asked by its own caller."""
    return _answer(_try(id, accept_identity=True))


@quarantined.post("/quarantine/<id>/remove")
def remove(id: str) -> ResponseReturnValue:
    """Remove one, once the person has said so twice."""
    if request.form.get("confirm") != "yes":
        return _ask(id, "remove")
    _remove(id)
    return redirect(url_for("quarantine.show", done=id), 303)


@quarantined.post("/api/v1/quarantine/<id>/remove")
def remove_json(id: str) -> ResponseReturnValue:
    """Do it for a program."""
    _remove(id)
    return jsonify(done=f"{id} was removed from quarantine.", quarantine=id)


def _read(id: str) -> QuarantinedPage:
    # Imported when used: it brings pydicom and numpy, 40 MB that an idle web need not hold.
    from appliance.health.side_by_side import differing, side_by_side

    here = node()
    entry = kept.read(here.layout, id)
    both = here.db, here.layout, entry
    return QuarantinedPage(entry, side_by_side(*both), differing(*both))


def _ask(id: str, action: str) -> str:
    question, what_follows, label = _CONFIRM[action]
    return page(
        "quarantined_confirm.html",
        page=_read(id), action=action, question=question, what_follows=what_follows, label=label,
    )  # fmt: skip


def _try(id: str, *, accept_identity: bool) -> Tried:
    from appliance.intake.again import Again

    here = node()
    again = Again(here.db, here.layout, here.settings, here.streams(), g.who)
    return again.try_again(id, g.now, accept_identity=accept_identity)


def _show_tried(tried: Tried) -> Response:
    if tried.is_kept:
        return redirect(url_for("quarantine.show", done=tried.id), 303)
    return redirect(url_for("quarantined.show", id=tried.id), 303)


def _answer(tried: Tried) -> ResponseReturnValue:
    return jsonify(tried), 200 if tried.is_kept else 409


def _remove(id: str) -> None:
    from appliance.intake.again import remove

    here = node()
    remove(here.db, here.layout, [id], g.who, g.now)
