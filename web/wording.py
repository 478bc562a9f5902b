"""How pages say times, sizes, names and states.  Pure; registered as filters in `web.app`."""

from __future__ import annotations

from datetime import datetime, timedelta

from appliance import amounts
from appliance.disk.quarantine import Kind
from appliance.index.states import DeliveryState, JobState

JOB_STATES = {
    JobState.QUEUED: "Waits for its turn",
    JobState.RUNNING: "Runs now",
    JobState.SUCCEEDED: "Ended well",
    JobState.PARTIAL: "Ended with a part of its results",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
}

DELIVERY_STATES = {
    DeliveryState.DUE: "waits to be sent",
    DeliveryState.SENDING: "is being sent",
    DeliveryState.DELIVERED: "delivered",
    DeliveryState.GAVE_UP: "given up",
}

QUARANTINE_KINDS = {
    Kind.REFUSED: "The node did not keep it, and its sender was told so",
    Kind.CONFLICT: "Other content is kept under its UID",
    Kind.HELD: "It belongs to another patient, or another study, than what has its UIDs: "
    "a person decides",
    Kind.REPLACED: "It was kept until other content took its place",
    Kind.LEFTOVER: "It stood under an instance's name, but nothing knew of it",
}

_NO_NAMES = {
    "A", "All", "An", "Another", "Its", "It", "No", "Nobody", "None", "Nothing", "One", "Only",
    "Some", "The", "There", "This", "Waits",
}  # fmt: skip


def lasted(length: timedelta | float | None) -> str:
    """Say a length of time: 0.4 s, 14 s, 2 min 14 s, 3 h 5 min, 2 days 4 h."""
    if length is None:
        return ""
    seconds = length.total_seconds() if isinstance(length, timedelta) else float(length)
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    for size, unit, smaller, small_unit in (
        (86400, "days", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            big = "1 day" if unit == "days" and whole // size == 1 else f"{whole // size} {unit}"
            return f"{big} {rest} {small_unit}" if rest else big
    return f"{whole} s"


def size(bytes_: int | float | None) -> str:
    """Say the size of a file or a volume: 532 B, 12.4 MB, 2 GB; "" when it is not known."""
    return "" if bytes_ is None else amounts.of_disk(bytes_)


def count(number: int, one: str, many: str = "") -> str:
    """Say a number of things: 1 image, 23 images, 12 400 images."""
    return f"{grouped(number)} {one if number == 1 else many or one + 's'}"


def grouped(number: int) -> str:
    """Write a number with its thousands apart, by a space that does not break."""
    return f"{number:,}".replace(",", "\u202f")


def clock(moment: datetime | None, now: datetime) -> str:
    """Say a moment in the appliance's zone: 10:42:07 today, else 2026-02-03 10:42."""
    if moment is None:
        return ""
    local, today = moment.astimezone(), now.astimezone()
    if local.date() == today.date():
        return local.strftime("%H:%M:%S")
    return local.strftime("%Y-%m-%d %H:%M")


def moment(when: datetime | None) -> str:
    """Say a moment in full, in the appliance's zone."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z") if when else ""


def iso(when: datetime | None) -> str:
    """Write a moment for machines."""
    return when.isoformat().replace("+00:00", "Z") if when else ""


def zone(now: datetime) -> str:
    """Name the appliance's time zone: CET (UTC+01:00)."""
    local = now.astimezone()
    offset = local.strftime("%z")
    return f"{local.tzname()} (UTC{offset[:3]}:{offset[3:]})"


def person(name: str) -> str:
    """Say a person's name as written: family, given (PS3.5 6.2.1.2); "" when there is none.

    Ideographic and phonetic groups follow the alphabetic one.
    """
    groups = [_group(group) for group in name.split("=")]
    return " · ".join(group for group in groups if group)


def scanner_date(text: str) -> str:
    """Say a DICOM date as the scanner wrote it, never converted: 2026-02-03."""
    if len(text) == 8 and text.isdigit():
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return text


def lower_first(sentence: str) -> str:
    """Let a sentence go on after a colon: "It ran out" becomes "it ran out".

    Only words that are no names: "Docker does not answer" stays as it is.
    """
    is_plain = sentence.split(" ", 1)[0] in _NO_NAMES
    return sentence[:1].lower() + sentence[1:] if is_plain else sentence


def marks(codes: str) -> str:
    """Say what of an instance is not as the standard wants it; "" for most."""
    if not codes:
        return ""
    # Imported when there are any: it brings pydicom, 40 MB that an idle web need not hold.
    from appliance.dicom.marks import in_words

    return "; ".join(in_words(codes))


def _group(group: str) -> str:
    family, given, middle, prefix, suffix = (group.split("^") + [""] * 5)[:5]
    first = " ".join(part.strip() for part in (prefix, given, middle) if part.strip())
    full = ", ".join(part for part in (family.strip(), first) if part)
    return f"{full} {suffix.strip()}".strip()
