"""What of an instance is not as the standard wants it is said where a job shows its instances."""

from __future__ import annotations

import sqlalchemy as sa
from flask.testing import FlaskClient

from appliance.index import schema as t
from tests.web.day import Day


def test_marks_of_the_input_stand_on_the_page_of_the_job(client: FlaskClient, day: Day) -> None:
    study = day.study("Doe^Jane", "", "CT Head", 3)
    job = day.succeeded(study)
    assert "Patient ID is empty" not in client.get(f"/jobs/{job}").text
    with day.db.write() as connection:
        marked = t.instances.c.sop_instance_uid == study[1]
        connection.execute(
            sa.update(t.instances).where(marked).values(marks="no-patient-id,odd-lengths")
        )
    text = client.get(f"/jobs/{job}").text
    assert text.count("the Patient ID is empty; a value has an odd length") == 1
    told = client.get(f"/api/v1/jobs/{job}").json
    assert told is not None
    assert told["marks"] == {study[1]: ["no-patient-id", "odd-lengths"]}
