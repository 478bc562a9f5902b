"""The web process: waitress serves in a thread, the main thread beats and hears signals."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

from flask import Flask
from waitress.server import create_server

from appliance import ids, lifecycle, logs, settings_file
from appliance.errors import BrookboxError, IndexUnavailable, SettingsError, explain
from appliance.index import beats
from appliance.index.database import open_index
from appliance.lifecycle import Lifecycle
from appliance.settings import Settings
from web.access_key import AccessKey
from web.app import make_app
from web.guard import Guard
from web.node import Node

_BEAT_SECONDS = 10.0
_LOOK_SECONDS = 0.5
_LARGEST_BODY = 1 << 20
_CONNECTIONS = 200


def run(settings: Settings) -> int:
    """Serve the pages until asked to stop; give the exit code."""
    logs.set_up("web", settings.node.log_level)
    if os.environ.get("BROOKBOX_SUPERVISED") == "1":
        lifecycle.die_with_parent()
    life = Lifecycle()
    try:
        db = open_index(settings)
        app = make_app(settings, db)
        server = make_server(app, settings)
    except BrookboxError as error:
        print(explain(error), file=sys.stderr)
        return 1
    guard: Guard = app.extensions["brookbox_guard"]
    if guard.needs_key:
        _announce(guard.key)
    logs.get().info("web started", address=settings.web.address, port=settings.web.port)
    serving = threading.Thread(target=server.run, name="waitress", daemon=True)
    serving.start()
    _beat_until_stopped(life, app.extensions["brookbox"], serving)
    code = 0 if life.is_stopping else 1
    stop_server(server)
    db.close()
    return code


def make_server(app: Flask, settings: Settings) -> Any:
    """Listen at web.address and web.port; SettingsError when that cannot be."""
    web = settings.web
    try:
        return create_server(
            app,
            host=web.address,
            port=web.port,
            threads=web.threads,
            ident=None,
            max_request_body_size=_LARGEST_BODY,
            connection_limit=_CONNECTIONS,
            channel_timeout=60,
            # waitress would take Forwarded and X-Forwarded-… away before we see them.
            clear_untrusted_proxy_headers=False,
        )
    except (OSError, ValueError) as error:
        raise _cannot_listen(settings, error) from error


def stop_server(server: Any) -> None:
    """Let running requests end for some seconds, then close; its thread ends with its clients."""
    server.task_dispatcher.shutdown(timeout=5)
    server.close()


def _cannot_listen(settings: Settings, error: Exception) -> SettingsError:
    where = f"port {settings.web.port} of {settings.web.address}"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return SettingsError(
            f"the pages cannot be served: {where} is taken by another program",
            remedy="stop that program, or choose another port: web.port in the settings",
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
        return SettingsError(
            f"the pages cannot be served: this user may not listen on {where}",
            remedy="choose a port from 1024 up: web.port in the settings",
        )
    return SettingsError(
        f"the pages cannot be served: {where} is no place to listen on: {error}",
        remedy="set web.address to an address of this machine, or to 0.0.0.0 for all of them",
    )


def _announce(key: AccessKey) -> None:
    """Say where the key is; show a new one to a person at a terminal, never to a log."""
    if key.is_new and sys.stderr.isatty():
        print(f"The access key of the pages, shown this once: {key.secret}", file=sys.stderr)
    print(f"The pages ask for the access key, which is in {key.file}", file=sys.stderr)


def _beat_until_stopped(life: Lifecycle, node: Node, serving: threading.Thread) -> None:
    me, was_silent, beat_at = str(ids.this_process()), False, 0.0
    while serving.is_alive() and not life.sleep(_LOOK_SECONDS):
        if life.wants_reload():
            node.settings = settings_file.reloaded(node.settings)
        if time.monotonic() < beat_at:
            continue
        beat_at = time.monotonic() + _BEAT_SECONDS
        try:
            beats.beat(node.db, me, "web", datetime.now(UTC))
            was_silent = False
        except IndexUnavailable as error:
            if not was_silent:
                logs.get().warning("index unavailable", said=str(error))
            was_silent = True
    with contextlib.suppress(IndexUnavailable):
        beats.remove(node.db, [me])
    node.is_stopping.set()
