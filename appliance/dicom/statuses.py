"""Statuses and reasons in words: C-STORE (PS3.4 B.2.3), association reject (PS3.8 9.3.4)."""

from __future__ import annotations

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
NOT_AUTHORISED = 0x0124
COERCED = 0xB000
MARKED = 0xB007
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

_STORE = {
    0x0000: "success",
    0x0105: "no such attribute",
    0x0106: "invalid attribute value",
    0x0107: "attribute list error",
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0112: "no such SOP instance",
    0x0115: "invalid argument value",
    0x0116: "attribute value out of range",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0119: "class-instance conflict",
    0x0120: "missing attribute",
    0x0121: "missing attribute value",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0x0210: "duplicate invocation",
    0x0211: "unrecognised operation",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
    0xB000: "stored, with elements coerced",
    0xB006: "stored, with elements discarded",
    0xB007: "stored, though the data set does not match its SOP class",
}
_STORE_RANGES = (
    (0xA700, 0xA7FF, "refused: out of resources"),
    (0xA800, 0xA8FF, "refused: SOP class not supported"),
    (0xA900, 0xA9FF, "error: the data set does not match its SOP class"),
    (0xB000, 0xBFFF, "stored, with a warning"),
    (0xC000, 0xCFFF, "error: cannot understand"),
)

# (source, reason): what it means.  The result, 1 or 2, says for good or for now.
_REJECT = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given by the association service",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


def store_status(status: int) -> str:
    """Say what a C-STORE status means, such as `0xA700 refused: out of resources`."""
    words = _STORE.get(status)
    if words is None:
        words = next((w for low, high, w in _STORE_RANGES if low <= status <= high), "unknown")
    return f"0x{status:04X} {words}"


def is_success(status: int) -> bool:
    """Say whether the instance was kept by the peer: success or a warning."""
    return status == SUCCESS or status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF


def is_transient(status: int) -> bool:
    """Say whether the same instance may be accepted later: the peer lacks resources."""
    return 0xA700 <= status <= 0xA7FF or status in (0x0110, 0x0213)


def reject_reason(result: int, source: int, reason: int) -> str:
    """Say what an association reject means, such as `called AE title not recognised (1,1,7)`."""
    words = _REJECT.get((source, reason), "unknown reason")
    lasting = "for good" if result == 1 else "for now"
    return f"{words}, {lasting} ({result},{source},{reason})"
