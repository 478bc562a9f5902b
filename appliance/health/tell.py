"""Tell somebody outside of an alert: a webhook, a mail.  No patients' data: an alert has none.

Each way gives "" when the message was taken, else why not, as the heartbeat's questions do.
"""

from __future__ import annotations

import http.client
import json
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

from appliance import __version__
from appliance.settings import Alerts, Settings

_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Message:
    """What is told; `state` is open, ended, or test.  Times are ISO 8601, "" is none."""

    node: str
    state: str
    kind: str
    subject: str
    sentence: str
    remedy: str
    began_at: str
    ended_at: str = ""


Way = Callable[[Message], str]


def ways(settings: Settings) -> dict[str, Way]:
    """Give the ways that the settings name."""
    rules, home = settings.alerts, settings.home
    found: dict[str, Way] = {}
    if rules.webhook_url:
        found["webhook"] = lambda message: by_webhook(rules, home, message)
    if rules.mail_host:
        found["mail"] = lambda message: by_mail(rules, home, message)
    return found


def by_webhook(rules: Alerts, home: Path, message: Message) -> str:
    """Post a message as JSON; a redirect is no answer, since the token would go with it."""
    where = urlsplit(rules.webhook_url)
    path = (where.path or "/") + (f"?{where.query}" if where.query else "")
    headers = {"Content-Type": "application/json", "User-Agent": f"brookbox/{__version__}"}
    try:
        if rules.webhook_token_file:
            headers["Authorization"] = f"Bearer {_secret(home / rules.webhook_token_file)}"
        connection = _connection(where.scheme, where.hostname or "", where.port)
        try:
            connection.request("POST", path, json.dumps(asdict(message)).encode(), headers)
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{where.hostname} was not reached: {error or type(error).__name__}"
    return "" if 200 <= status < 300 else f"{where.hostname} answered {status}"


def by_mail(rules: Alerts, home: Path, message: Message) -> str:
    """Hand a message to the mail server."""
    try:
        with _mail_server(rules) as server:
            if rules.mail_security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if rules.mail_user:
                password = _secret(home / rules.mail_password_file)
                server.login(rules.mail_user, password)
            refused = server.send_message(_mail(rules, message))
    except (OSError, ValueError, smtplib.SMTPException) as error:
        return f"{rules.mail_host} did not take it: {error or type(error).__name__}"
    return f"{rules.mail_host} refused {', '.join(refused)}" if refused else ""


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=_PATIENCE_SECONDS)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(host, port, timeout=_PATIENCE_SECONDS, context=context)


def _mail_server(rules: Alerts) -> smtplib.SMTP:
    host, port = rules.mail_host, rules.mail_port
    if rules.mail_security != "tls":
        return smtplib.SMTP(host, port, timeout=_PATIENCE_SECONDS)
    context = ssl.create_default_context()
    return smtplib.SMTP_SSL(host, port, timeout=_PATIENCE_SECONDS, context=context)


def _mail(rules: Alerts, message: Message) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"] = rules.mail_from, ", ".join(rules.mail_to)
    over = "over: " if message.state == "ended" else ""
    mail["Subject"] = _one_line(f"{message.node}: {over}{message.kind} {message.subject}")
    lines = [message.sentence, f"Try: {message.remedy}" if message.remedy else ""]
    lines += [f"Since {message.began_at}." if message.began_at else ""]
    lines += [f"It is over since {message.ended_at}." if message.ended_at else ""]
    mail.set_content("\n".join(line for line in lines if line) + "\n")
    return mail


def _secret(file: Path) -> str:
    return file.read_text("utf-8").strip()


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200]
