"""Edit routing.yaml as text: checked before it is saved, every version kept, comments too."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from flask import Blueprint, g, jsonify, redirect, request
from flask.typing import ResponseReturnValue

from appliance import bells, logs
from appliance.errors import RoutingChanged, RoutingError
from appliance.index import events
from web.frame import page
from web.node import node

routing_edit = Blueprint("routing_edit", __name__)

_VERSIONS_SHOWN = 20


@routing_edit.get("/routing/edit")
def show() -> ResponseReturnValue:
    """Show the text as it is, or an older version of it, ready to be changed."""
    edit, settings = _edit(), node().settings
    loaded = edit.load(settings)
    version = request.args.get("version", "")
    text = edit.version_text(settings, version) if version else loaded.text
    return _editor(text, loaded.digest, version=version)


@routing_edit.post("/routing/edit")
def save() -> ResponseReturnValue:
    """Save it; with mistakes, or when somebody else was faster, show it again unsaved."""
    # A browser sends lines that end in CR LF, whatever it was given.
    text = request.form.get("text", "").replace("\r\n", "\n")
    digest = request.form.get("digest", "")
    try:
        _save(text, digest)
    except RoutingChanged as error:
        return _editor(text, digest, sentence=str(error), remedy=error.remedy), 409
    except RoutingError as error:
        return _editor(text, digest, mistakes=str(error).splitlines()), 422
    return redirect("/routing", 303)


@routing_edit.put("/api/v1/routing")
def save_json() -> ResponseReturnValue:
    """Save it for a program: `{"text": "…", "digest": "…"}`, the digest of what it had read."""
    asked = request.get_json(silent=True)
    asked = asked if isinstance(asked, dict) else {}
    changed = _save(str(asked.get("text", "")), str(asked.get("digest", "")))
    return jsonify(done=changed)


def _save(text: str, digest: str) -> str:
    here = node()
    changed = _edit().save(here.settings, text, digest, g.who, g.now)
    bells.ring(here.layout.run, "router")
    sentence = f"{g.who} changed routing.yaml: {changed}"
    with here.db.write() as connection:
        events.append(connection, "routing changed", sentence, g.now, who=g.who)
    logs.get().info("routing changed", who=g.who)
    return str(changed)


def _edit() -> ModuleType:
    # Imported when used: it brings pydicom's dictionary, 40 MB that an idle web need not hold.
    return importlib.import_module("appliance.router.edit")


def _editor(text: str, digest: str, **more: Any) -> str:
    settings = node().settings
    return page(
        "routing_edit.html",
        file=settings.routing_file,
        text=text,
        digest=digest,
        versions=_edit().history(settings)[:_VERSIONS_SHOWN],
        **more,
    )
