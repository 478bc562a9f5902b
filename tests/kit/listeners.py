"""Who alerts are told to: a web server and a mail server that keep what they are given."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Hook:
    """A web server that takes JSON; `answers` is the status of what comes next."""

    answers: int = 204
    port: int = 0
    posted: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refused: int = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/alerts?from=brookbox"


@contextlib.contextmanager
def hook() -> Iterator[Hook]:
    """Run a web server."""
    made = Hook()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if made.answers < 300:
                made.posted.append(json.loads(body))
                made.headers.append(dict(self.headers))
            else:
                made.refused += 1
            self.send_response(made.answers)
            if made.answers in (301, 302, 307, 308):
                self.send_header("Location", f"http://127.0.0.1:{made.port}/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with _serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        made.port = port
        yield made


@dataclass
class Mails:
    """A mail server that speaks as much SMTP (RFC 5321) as a sender needs."""

    port: int = 0
    texts: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    is_full: bool = False


@contextlib.contextmanager
def mails() -> Iterator[Mails]:
    """Run a mail server."""
    made = Mails()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 mail.example ESMTP")
            while line := self.rfile.readline().decode().strip():
                word = line.split()[0].upper()
                if word == "RCPT" and made.is_full:
                    self._say("452 4.2.2 no room")
                elif word == "RCPT":
                    made.recipients.append(line.partition("<")[2].partition(">")[0])
                    self._say("250 ok")
                elif word == "DATA":
                    self._say("354 go on")
                    made.texts.append(self._text())
                    self._say("250 kept")
                elif word == "QUIT":
                    self._say("221 goodbye")
                    return
                else:
                    self._say("250 ok")

        def _text(self) -> str:
            lines = []
            while (line := self.rfile.readline().decode()) != ".\r\n":
                lines.append(line)
            return "".join(lines)

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        made.port = port
        yield made


@contextlib.contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
