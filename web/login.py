"""Log in with the access key, log out; too many wrong tries wait."""

from __future__ import annotations

from flask import Blueprint, abort, redirect, request
from werkzeug.exceptions import TooManyRequests
from werkzeug.wrappers import Response

from appliance import logs
from web.access_key import SESSION_LASTS
from web.frame import bare_page, local_path
from web.guard import COOKIE, guard
from web.node import now

login = Blueprint("login", __name__)


@login.get("/login")
def ask() -> str | Response:
    """Ask for the key; without need of one, go home."""
    if not guard().needs_key:
        return redirect("/")
    return bare_page("login.html", next=local_path(request.args.get("next")), wrong="")


@login.post("/login")
def enter() -> str | Response | tuple[str, int]:
    """Take the key and open a session."""
    if not guard().needs_key:
        abort(404)
    moment, address, tries = now(), request.remote_addr or "", guard().tries
    free_at = tries.free_at(address, moment)
    if free_at is not None:
        at = free_at.astimezone().strftime("%H:%M:%S")
        raise TooManyRequests(f"Too many wrong keys were tried. Try again after {at}.")
    where = local_path(request.form.get("next"))
    if not guard().key.is_same(request.form.get("key", "").strip()):
        tries.add(address, moment)
        logs.get().warning("login refused", address=address)
        return bare_page("login.html", next=where, wrong="That is not the access key."), 403
    logs.get().info("login", address=address)
    answer = redirect(where, 303)
    answer.set_cookie(
        COOKIE,
        guard().key.session(moment),
        max_age=SESSION_LASTS,
        httponly=True,
        samesite="Lax",
        secure=request.is_secure,
    )
    return answer


@login.post("/logout")
def leave() -> Response:
    """End the session of this browser."""
    answer = redirect("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="Lax", secure=request.is_secure)
    return answer
