"""Who may ask: every request passes here before its view.

On a loopback address the pages need no key; then the Host must be loopback too
(a name that was rebound to 127.0.0.1 is refused) and no proxy may stand between.
Beyond loopback a session or `Authorization: Bearer` proves the access key.  What
changes something must come from our own pages: `Sec-Fetch-Site` or `Origin` say
so, and the form's token stands behind them, since browsers leave the former out
on plain http.
"""

from __future__ import annotations

import hmac
from urllib.parse import quote, urlsplit

from flask import Flask, Response, current_app, g, redirect, request
from werkzeug.exceptions import BadRequest, Forbidden, Unauthorized, UnsupportedMediaType
from werkzeug.wrappers import Response as AnyResponse

from appliance.settings import Settings
from web.access_key import AccessKey, ensure_form_secret, ensure_key, is_loopback, needs_key
from web.node import now
from web.tries import Tries

COOKIE = "brookbox_session"
_OPEN_TO_ALL = {"static", "login.ask", "login.enter", "health.alive", "frame.set_theme"}
_SAFE = {"GET", "HEAD", "OPTIONS"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Guard:
    """The rules of one application: whether a key is asked for, and which."""

    def __init__(self, settings: Settings) -> None:
        self.needs_key = needs_key(settings)
        self.key: AccessKey = (ensure_key if self.needs_key else ensure_form_secret)(settings)
        self.tries = Tries()

    def install(self, app: Flask) -> None:
        """Stand before every view of the application, and behind it."""
        app.extensions["brookbox_guard"] = self
        app.before_request(self.admit)
        app.after_request(add_headers)
        app.jinja_env.globals["form_token"] = form_token

    def admit(self) -> AnyResponse | None:
        """Let the request pass, or answer it here."""
        g.who = f"a person in the web ({request.remote_addr})"
        g.is_bearer = False
        _refuse_nul()
        if not self.needs_key:
            _refuse_proxies()
            _refuse_other_hosts()
        elif request.endpoint not in _OPEN_TO_ALL and not self._has_key():
            return self._ask_for_key()
        if request.method not in _SAFE:
            self._refuse_foreign_forms()
        return None

    def token(self) -> str:
        """Give the token of forms for this session."""
        return self.key.seal("form", request.cookies.get(COOKIE, ""))

    def _has_key(self) -> bool:
        scheme, _, tried = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            g.is_bearer = self.key.is_same(tried.strip())
            return bool(g.is_bearer)
        return self.key.is_session(request.cookies.get(COOKIE, ""), now())

    def _ask_for_key(self) -> AnyResponse:
        if request.path.startswith("/api/") or request.path == "/metrics":
            raise Unauthorized(
                "This needs the access key: send it as the header Authorization: Bearer <key>."
            )
        if request.method not in _SAFE:
            raise Forbidden("You are not logged in any more. Log in, then do it again.")
        back = request.full_path.rstrip("?")
        return redirect(f"/login?next={quote(back, safe='')}" if back != "/" else "/login")

    def _refuse_foreign_forms(self) -> None:
        if g.is_bearer:
            return  # a browser never sends it by itself
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None and site not in ("same-origin", "none"):
            raise Forbidden("This was sent by a page of another site, so nothing was done.")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise Forbidden("This was sent by a page of another site, so nothing was done.")
        if request.path.startswith("/api/"):
            # A form of another site cannot send this type without asking us first.
            if not request.is_json:
                raise UnsupportedMediaType("Send this with Content-Type: application/json.")
            return
        tried = request.form.get("token", "")
        if not hmac.compare_digest(tried.encode("utf-8", "replace"), self.token().encode()):
            raise Forbidden(
                "This page is older than your session, so nothing was done. "
                "Go back, reload the page and try again."
            )


def guard() -> Guard:
    """Give the guard of the current application."""
    found = current_app.extensions["brookbox_guard"]
    assert isinstance(found, Guard)
    return found


def form_token() -> str:
    """Give the token that every form of ours carries."""
    return guard().token()


def add_headers(response: Response) -> Response:
    """Add what each answer carries (WEB policy: nothing inline, nothing from elsewhere)."""
    for name, value in _HEADERS.items():
        response.headers[name] = value
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _refuse_nul() -> None:
    """Refuse what no text holds: PostgreSQL takes it for an error of ours."""
    if any("\0" in text for text in request.args.values()):
        raise BadRequest("The address holds a character that is no text.")


def _refuse_proxies() -> None:
    names = {name.lower() for name, _ in request.headers}
    if names & {"forwarded", "via"} or any(name.startswith("x-forwarded-") for name in names):
        raise Forbidden(
            "This request came through a proxy. Without an access key the pages answer this "
            "machine only: set web.address to the address to listen on, and they ask for the key."
        )


def _refuse_other_hosts() -> None:
    host = request.headers.get("Host", "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if not is_loopback(name):
        raise Forbidden(
            "Without an access key the pages answer to http://127.0.0.1 and http://localhost only. "
            "To reach them by another name, set web.address to the address to listen on."
        )
