from __future__ import annotations

from pathlib import Path

import pytest

from appliance.disk.layout import Layout
from appliance.index.database import Database
from appliance.intake.take import Intake


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data")
    layout.make()
    return layout


@pytest.fixture
def intake(db: Database, layout: Layout) -> Intake:
    return Intake(db, layout, "BROOKBOX")
