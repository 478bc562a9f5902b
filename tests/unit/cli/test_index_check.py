"""`brookbox index check` on a node that stopped between an answer and its row."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from appliance.cli.main import main
from appliance.disk.layout import Layout
from appliance.settings import Settings
from tests.kit import indexes


def test_what_was_received_and_has_no_row_yet_is_not_called_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(home=tmp_path)
    indexes.migrated(settings).close()
    layout = Layout(settings.data_root)
    layout.make()
    series = layout.studies / "aa" / "1.2" / "1.3"
    series.mkdir(parents=True)
    answered, stray = series / "1.4.dcm", series / "1.5.dcm"
    answered.write_bytes(b"x")
    stray.write_bytes(b"y")
    (layout.incoming / "p-1").mkdir(parents=True)
    os.link(answered, layout.incoming / "p-1" / "a.part")
    home = ["--home", str(tmp_path)]
    assert main([*home, "index", "check"]) == 0
    said = capsys.readouterr().out
    received, without = said.index("nothing is lost"), said.index("for the housekeeper to remove")
    assert received < said.index("1.4.dcm") < without < said.index("1.5.dcm")
    assert main([*home, "--json", "index", "check"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(one).name for one in told["waiting"]] == ["1.4.dcm"]
    assert [Path(one).name for one in told["unknown"]] == ["1.5.dcm"]
