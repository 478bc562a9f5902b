"""An intake on folders and an index of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from appliance.disk.layout import Layout
from appliance.index.database import Database
from appliance.intake.filing import Kept, Sender
from appliance.intake.take import Intake
from appliance.settings import Receiver
from tests.unit.intake.direct import Road
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
    return sender_of(intake, tmp_path)


@pytest.fixture
def intake_of(
    db: Database, layout: Layout, tmp_path: Path
) -> Callable[[Receiver], Callable[..., Kept]]:
    """Send to an intake with these settings."""
    return lambda rules: sender_of(Intake(db, layout, "BROOKBOX", lambda: rules), tmp_path)


@pytest.fixture
def road(db: Database, layout: Layout) -> Iterator[Road]:
    road = Road(db, layout)
    yield road
    road.close()


def sender_of(intake: Intake, tmp_path: Path) -> Callable[..., Kept]:
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
            sop_instance_uid=request.get("sop_instance_uid") or ds.SOPInstanceUID,
            transfer_syntax_uid=request.get("transfer_syntax_uid", LITTLE),
            sender=sender,
            level=level,
            now=now,
        )

    return send
