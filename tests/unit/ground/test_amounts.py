"""Disks in powers of 1000, memory in powers of 1024, everywhere."""

from __future__ import annotations

import pytest

from appliance import amounts
from appliance.disk.space import Space, reserve_bytes
from appliance.settings import Settings
from appliance.streams.info import StreamInfo
from appliance.streams.limits import limits_of


@pytest.mark.parametrize(
    ("count", "of_disk", "of_memory"),
    [
        (0, "0 B", "0 B"),
        (1000, "1 kB", "1000 B"),
        (150_000, "150 kB", "146 kB"),
        (2 * 1024**3, "2.1 GB", "2 GB"),
        (5 * 10**15, "5000 TB", "4547 TB"),
    ],
)
def test_an_amount_is_said_as_it_is_counted(count: int, of_disk: str, of_memory: str) -> None:
    assert amounts.of_disk(count) == of_disk
    assert amounts.of_memory(count) == of_memory


def test_the_keys_and_settings_keep_to_it() -> None:
    limits = limits_of(StreamInfo(AETitle="A", memory_gb=2, output_gb=2), Settings())
    assert limits.memory_bytes == 2 * 1024**3 and limits.output_bytes == 2 * 10**9
    assert reserve_bytes(Space(10**12, 10**12, 0, 0), 5, 0) == 5 * 10**9
