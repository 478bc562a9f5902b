"""The access key, until there are accounts: made once, kept with mode 0600.

It is asked for as soon as the pages listen beyond this machine, or `web.ask_key` says
so.  `brookbox up` shows a new one at a terminal; the key itself is never logged.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from appliance.errors import SettingsError
from appliance.settings import Settings

SESSION_LASTS = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A secret of this node and the file that holds it; `is_new` when it was just made."""

    secret: str
    file: Path
    is_new: bool = False

    def is_same(self, tried: str) -> bool:
        """Compare in constant time, whatever the lengths."""
        return hmac.compare_digest(_digest(self.secret), _digest(tried))

    def seal(self, purpose: str, text: str) -> str:
        """Sign a text for one purpose."""
        message = f"{purpose}\n{text}".encode()
        return hmac.new(self.secret.encode(), message, hashlib.sha256).hexdigest()

    def session(self, now: datetime) -> str:
        """Make the value of a session's cookie; it proves the key and holds its end."""
        ends = f"{int((now + SESSION_LASTS).timestamp())}-{secrets.token_hex(8)}"
        return f"{ends}.{self.seal('session', ends)}"

    def is_session(self, value: str, now: datetime) -> bool:
        """Say whether this cookie is one of ours and has not ended."""
        ends, _, seal = value.partition(".")
        if not hmac.compare_digest(self.seal("session", ends).encode(), seal.encode()):
            return False
        return int(ends.split("-")[0]) > now.timestamp()


def needs_key(settings: Settings) -> bool:
    """Say whether the pages are reached from beyond this machine, or not all on it are trusted."""
    return settings.web.ask_key or not is_loopback(settings.web.address)


def is_loopback(host: str) -> bool:
    """Say whether this host name or address is this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def ensure_key(settings: Settings) -> AccessKey:
    """Give the node's access key; make it at the first start."""
    return _ensure(settings.access_key_file, "web.access_key_file")


def ensure_form_secret(settings: Settings) -> AccessKey:
    """Give the secret behind the forms' tokens where there is no access key."""
    return _ensure(settings.data_root / "run" / "web.secret", "node.data_root")


def _ensure(file: Path, setting: str) -> AccessKey:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_new = _make(file)
        secret = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the access key cannot be kept in {file}: {error}",
            remedy=f"let this user write there, or name another file: {setting}",
        ) from error
    if len(secret) < 16:
        raise SettingsError(
            f"{file} holds no access key, or one of under 16 characters",
            remedy=f"remove it, and the next start makes a new one: rm {file}",
        )
    return AccessKey(secret, file, is_new)


def _make(file: Path) -> bool:
    """Make the file unless it is there; it appears whole or not at all."""
    if file.exists():
        return False
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(secrets.token_urlsafe(32) + "\n")
        out.flush()
        os.fsync(out.fileno())
    try:
        os.link(part, file)  # refuses to replace what another process made just now
    except FileExistsError:
        return False
    finally:
        part.unlink()
    return True


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
