"""What a data set must say of the lossy compression that it went through (PS3.3 C.7.6.1.1.5).

Once lossy, always lossy: an image that is decoded keeps the mark, the ratio and the method,
and gets them where its maker left them out.
"""

from __future__ import annotations

from collections.abc import Mapping

LOSSY_IMAGE_COMPRESSION = 0x00282110
RATIO = 0x00282112
METHOD = 0x00282114

_JPEG, _JPEG_LS, _JPEG_2000 = "ISO_10918_1", "ISO_14495_1", "ISO_15444_1"
# Syntaxes that cannot be without loss, and those that may be (PS3.5 annex A.4).
_ALWAYS = {f"1.2.840.10008.1.2.4.{n}": _JPEG for n in (50, 51, 52, 53, 54, 55, 56)}
_PERHAPS = {
    "1.2.840.10008.1.2.4.81": _JPEG_LS,
    "1.2.840.10008.1.2.4.91": _JPEG_2000,
    "1.2.840.10008.1.2.4.93": "ISO_15444_2",
    "1.2.840.10008.1.2.4.112": "ISO_18181_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}


def is_lossy(transfer_syntax_uid: str, mark: str) -> bool:
    """Say whether an image in this transfer syntax has lost something.

    `mark` is its Lossy Image Compression; 00 is believed where the syntax can be without loss.
    """
    if transfer_syntax_uid in _PERHAPS:
        return mark != "00"
    return transfer_syntax_uid in _ALWAYS


def after_decoding(
    transfer_syntax_uid: str, stated: Mapping[int, str], decoded_bytes: int, encoded_bytes: int
) -> dict[int, str]:
    """Give the elements to write, by tag, beside those that the data set states already."""
    mark = stated.get(LOSSY_IMAGE_COMPRESSION, "")
    if not is_lossy(transfer_syntax_uid, mark):
        return {}
    method = _ALWAYS.get(transfer_syntax_uid) or _PERHAPS[transfer_syntax_uid]
    missing: dict[int, str] = {}
    if mark != "01":
        missing[LOSSY_IMAGE_COMPRESSION] = "01"
    if not stated.get(RATIO):
        missing[RATIO] = f"{decoded_bytes / max(encoded_bytes, 1):.6g}"
    if not stated.get(METHOD):
        missing[METHOD] = method
    return missing
