"""An intake on folders and an index of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from appliance.disk.layout import Layout
from appliance.index.database import Database
from appliance.intake.filing import Kept, Sender
from appliance.intake.take import Intake
from tests.unit.intake.given import CT1, LITTLE, NOW, bytes_of


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data")
    layout.make()
    return layout


@pytest.fixture
def intake(db: Database, layout: Layout) -> Intake:
    return Intake(db, layout, "BROOKBOX")


@pytest.fixture
def send(intake: Intake, tmp_path: Path) -> Callable[..., Kept]:
    def send(
        ds: Dataset,
        sender: Sender = CT1,
        level: str | None = "study",
        now: datetime = NOW,
        data: bytes | None = None,
        **request: str,
    ) -> Kept:
        return intake.keep(
            bytes_of(ds, tmp_path) if data is None else data,
            sop_class_uid=request.get("sop_class_uid", ds.SOPClassUID),
            sop_instance_uid=request.get("sop_instance_uid", ds.SOPInstanceUID),
            transfer_syntax_uid=LITTLE,
            sender=sender,
            level=level,
            now=now,
        )

    return send
