"""Whether something was said of an association already: events are not one per instance."""

from __future__ import annotations

_MOST = 1000


class Noted:
    """The last associations of which something was noted."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}

    def is_first(self, key: str) -> bool:
        """Say so once for each key, as far back as a thousand keys reach."""
        if key in self._keys:
            return False
        if len(self._keys) >= _MOST:
            self._keys.pop(next(iter(self._keys)), None)
        self._keys[key] = None
        return True
