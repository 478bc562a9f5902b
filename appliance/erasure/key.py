"""The key of the tombstones: a file of the data folder, made when the first erasure is.

It never goes into a backup, so that nobody who has one can test whom it had erased.
Without it, on another machine or when it was lost, the tombstones tell nothing any more.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from appliance.disk.layout import Layout
from appliance.disk.sync import plain_errors, sync_file, sync_path

_BYTES = 32


def read(layout: Layout) -> bytes | None:
    """Give the key; None when nothing was ever erased here, or it was lost."""
    try:
        return bytes.fromhex(layout.erasure_key.read_text("ascii"))
    except FileNotFoundError:
        return None


def made(layout: Layout) -> bytes:
    """Give the key, and make it when there is none; it is durable then."""
    if (key := read(layout)) is not None:
        return key
    with plain_errors("The key of the tombstones could not be made"):
        part = layout.erasure_key.with_name(f"erasure.key.{secrets.token_hex(4)}.part")
        try:
            _write(part, secrets.token_bytes(_BYTES).hex())
            # A link refuses to replace: of two that make one at once, the first stays.
            os.link(part, layout.erasure_key)
        except FileExistsError:
            pass
        finally:
            part.unlink(missing_ok=True)
        sync_path(layout.root)
    key = read(layout)
    assert key is not None, "the key that was just made is not there"
    return key


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        sync_file(file.fileno())
