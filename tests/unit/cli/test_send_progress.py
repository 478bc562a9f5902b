"""`brookbox send store` says how far it is, and what it came to."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.cli.send_progress import Progress
from appliance.router.decoding import WAS_DECODED
from appliance.router.store_scu import FAILED, SENT, Outgoing, Result

ONE = Outgoing("1.2", "1.3", "1.2.840.10008.1.2.1", Path("one"))


def test_lines_tell_images_and_bytes_per_second_and_only_what_was_sent_counts() -> None:
    lines: list[str] = []
    progress = Progress(3, lines.append, 0.0)
    progress.note(Result(ONE, SENT, 0, "0x0000 success", sent_bytes=2_000_000))
    progress.note(Result(ONE, FAILED, 0xC000, "0xC000 error", sent_bytes=2_000_000))
    assert lines[0].startswith("1 of 3 files, 2 MB: ")
    assert lines[1].startswith("2 of 3 files, 2 MB: ")
    assert re.search(r": [\d.]+ images and [\d.]+ MB per second$", lines[1])
    assert re.fullmatch(
        r"2 MB in [\d.]+ s, [\d.]+ images and [\d.]+ MB per second\.", progress.summary()
    )


def test_the_summary_tells_what_was_decoded() -> None:
    progress = Progress(1, lambda line: None, 60.0)
    progress.note(Result(ONE, SENT, 0, f"0x0000 success. {WAS_DECODED} from", sent_bytes=1))
    assert progress.summary().endswith(
        "1 image was decoded, since it does not take the transfer syntax."
    )
