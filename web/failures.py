"""Every error as a sentence: what happened, what to do, and an id to find it by.

This is the web's boundary: what nobody expected is logged here once, with its
traceback, and answered with 500.
"""

from __future__ import annotations

import traceback
from http import HTTPStatus

from flask import Flask, Response, jsonify, make_response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from appliance import ids, logs
from appliance.errors import (
    BrookboxError,
    DeliveryError,
    IndexUnavailable,
    JobError,
    NoSpace,
    NotFound,
    QuarantineError,
    QueueUnavailable,
    RoutingChanged,
    RoutingError,
    StreamError,
)
from web.frame import bare_page
from web.guard import add_headers

# The first that fits counts, so a narrower error stands before a wider one.
_STATUSES: tuple[tuple[type[BrookboxError], int], ...] = (
    (NotFound, 404),
    (RoutingChanged, 409),
    (JobError, 409),
    (DeliveryError, 409),
    (QuarantineError, 409),
    (RoutingError, 422),
    (StreamError, 409),
    (NoSpace, 507),
    (IndexUnavailable, 503),
    (QueueUnavailable, 503),
)
_SENTENCES = {
    400: "This request could not be understood.",
    403: "This is not allowed.",
    404: "There is nothing at this address. It may have been removed, or mistyped.",
    405: "This address does not take that kind of request.",
    413: "What was sent is too large.",
    416: "That part of the file does not exist.",
    429: "Too many requests. Wait a minute, then try again.",
}
_REMEDIES = {
    401: "the key is in access.key in the node's data folder, or where web.access_key_file says",
    403: "",
    404: "go to Jobs or Home and look from there",
    413: "send less at once",
}


def install(app: Flask) -> None:
    """Answer every error of the application here."""
    app.register_error_handler(BrookboxError, _ours)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(Exception, _unexpected)


def _ours(error: BrookboxError) -> ResponseReturnValue:
    status = next((code for kind, code in _STATUSES if isinstance(error, kind)), 500)
    error_id = ids.new_id()
    if status >= 500:
        logs.get().error("request failed", error_id=error_id, status=status, said=str(error))
    return _answer(status, _as_sentence(str(error)), error.remedy, error_id)


def _of_http(error: HTTPException) -> ResponseReturnValue:
    if error.code is None or error.code < 400:
        return error.get_response()  # a redirect that was raised
    said = error.description or ""
    is_ours = said != type(error).description
    sentence = said if is_ours else _SENTENCES.get(error.code, said)
    answer = _answer(error.code, sentence, _REMEDIES.get(error.code, ""), ids.new_id())
    if error.code == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="brookbox"'
    return answer


def _unexpected(error: Exception) -> ResponseReturnValue:
    error_id = ids.new_id()
    # Not the error's own text: a database error holds what was searched for, such as a name.
    logs.get().error(
        "request failed",
        error_id=error_id,
        status=500,
        endpoint=request.endpoint,
        error=type(error).__name__,
        trace="".join(traceback.format_tb(error.__traceback__)),
    )
    sentence = "Something went wrong inside Brookbox. What is kept is safe; nothing was lost."
    return _answer(500, sentence, "tell whoever runs this node the error id below", error_id)


def _answer(status: int, sentence: str, remedy: str, error_id: str) -> Response:
    title = HTTPStatus(status).phrase
    if request.path.startswith("/api/") or request.accept_mimetypes.best == "application/json":
        answer = jsonify(error=sentence, remedy=remedy, status=status, error_id=error_id)
    else:
        html = bare_page(
            "failure.html",
            status=status, title=title, sentence=sentence, remedy=remedy, error_id=error_id,
        )
        answer = make_response(html)
    answer.status_code = status
    return add_headers(answer)


def _as_sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."
