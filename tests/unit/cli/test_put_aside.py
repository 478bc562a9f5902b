"""What a restore and a rebuild say of stored files that went to quarantine."""

from __future__ import annotations

import pytest

from appliance.cli.index import tell_put_aside
from appliance.index.rebuild import CaughtUp


@pytest.mark.parametrize(
    ("leftovers", "older", "said"),
    [
        ((), (), []),
        (("a",), (), ["1 result of jobs of whose end there is no record. These jobs run anew."]),
        (("a", "b"), ("c",), ["2 results of jobs", "1 file whose place other content had taken."]),
    ],
)
def test_each_kind_is_counted_in_a_sentence(
    leftovers: tuple[str, ...],
    older: tuple[str, ...],
    said: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell_put_aside(CaughtUp(0, 0, 0, leftovers, older))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(said)
    for line, words in zip(lines, said, strict=True):
        assert line.startswith("Put into quarantine: ") and words in line
