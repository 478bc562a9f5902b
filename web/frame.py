"""The frame around every page: theme, banners, navigation, version, time and zone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Blueprint, g, redirect, render_template, request
from flask.json.provider import DefaultJSONProvider
from pydantic import BaseModel
from werkzeug.wrappers import Response

from appliance import __version__
from web import wording
from web.banners import Banner, banners_now
from web.guard import guard
from web.node import node, now

frame = Blueprint("frame", __name__)

THEMES = {"system": "As this computer", "light": "Light", "dark": "Dark", "dim": "Dim"}
_YEAR_SECONDS = 365 * 86400


@dataclass(frozen=True, slots=True)
class Frame:
    """What the base template shows of the node and of this browser."""

    theme: str
    banners: tuple[Banner, ...]
    node_name: str
    version: str
    clock: str
    zone: str
    is_logged_in: bool
    path: str


def page(template: str, **facts: Any) -> str:
    """Render a page inside the frame, with the banners of this moment."""
    return _render(template, banners_now(node(), g.now), facts)


def bare_page(template: str, **facts: Any) -> str:
    """Render a page that must not need the index: errors, the login."""
    return _render(template, (), facts)


def read_clock() -> None:
    """Read the clock at the start of a request; everything it shows is of this moment."""
    g.now = now()


def local_path(path: str | None) -> str:
    """Give a path of this site to go back to; anything else is Home."""
    if not path or not path.startswith("/") or path[1:2] in ("/", "\\"):
        return "/"
    return path if path.isprintable() else "/"


@frame.post("/theme")
def set_theme() -> Response:
    """Keep the theme of this browser in a cookie."""
    answer = redirect(local_path(request.form.get("next")), 303)
    theme = request.form.get("theme", "system")
    if theme in THEMES:
        answer.set_cookie("theme", theme, max_age=_YEAR_SECONDS, httponly=True, samesite="Lax")
    return answer


class Json(DefaultJSONProvider):
    """JSON of our values: moments in ISO 8601, records as objects, keys in their order."""

    sort_keys = False
    ensure_ascii = True  # a name that is no text, such as that of a file, has no UTF-8

    @staticmethod
    def default(value: Any) -> Any:
        """Turn one value of ours into what JSON has."""
        match value:
            case datetime():
                return wording.iso(value)
            case date():
                return value.isoformat()
            case timedelta():
                return value.total_seconds()
            case BaseModel():
                return value.model_dump(mode="json", by_alias=True)
            case Path():
                return str(value)
            case frozenset() | set():
                return sorted(value)
            case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
                return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        raise TypeError(f"{type(value).__name__} has no form in JSON")


def _render(template: str, banners: tuple[Banner, ...], facts: Mapping[str, Any]) -> str:
    theme = request.cookies.get("theme", "system")
    moment = g.get("now") or now()
    shown = Frame(
        theme=theme if theme in THEMES else "system",
        banners=banners,
        node_name=node().settings.node.ae_title,
        version=__version__,
        clock=wording.moment(moment),
        zone=wording.zone(moment),
        is_logged_in=guard().needs_key,
        path=request.full_path.rstrip("?"),
    )
    return render_template(template, frame=shown, themes=THEMES, now=moment, **facts)
