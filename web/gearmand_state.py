"""Whether gearmand answers, asked at most now and then, so that no page waits for it often."""

from __future__ import annotations

import threading
import time

from appliance.health.answers import gearmand_answers
from appliance.settings import Settings

_ASKED_AGAIN_SECONDS = 10.0
_PATIENCE_SECONDS = 1.0


class GearmandAsker:
    """Remembers the last answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at = -_ASKED_AGAIN_SECONDS
        self._why = ""

    def why_silent(self, settings: Settings) -> str:
        """Say why gearmand does not answer; "" when it does."""
        with self._lock:
            if time.monotonic() - self._asked_at >= _ASKED_AGAIN_SECONDS:
                self._why = gearmand_answers(settings, _PATIENCE_SECONDS)
                self._asked_at = time.monotonic()
            return self._why
