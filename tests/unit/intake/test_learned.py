"""What the direct road learns of a sender's images, from one association to the next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from appliance.disk.layout import Layout
from appliance.intake.tally import Tally
from tests.kit.dicom import ct_study
from tests.unit.intake.direct import Road
from tests.unit.intake.given import CT1, LITTLE, bytes_of, stored


def test_what_was_learned_of_a_sender_serves_its_next_association(
    layout: Layout, road: Road, tmp_path: Path
) -> None:
    ways, study = road.ways, ct_study(6)
    for number, ds in enumerate(study):
        sender = replace(CT1, association_id=f"a{number}")
        tally = road.open(sender)
        one, other = (
            ways.way(sender, "study", ds.SOPClassUID, LITTLE, tally) for _ in range(2)
        )
        assert one.familiar is not other.familiar, "it is lent to one at a time"
        draft = one.begin(ds.SOPClassUID, ds.SOPInstanceUID)
        assert draft.keep([memoryview(bytes_of(ds, tmp_path))]).status == 0x0000
        one.close()
        learned = one.familiar
    again = ways.way(CT1, "study", study[0].SOPClassUID, LITTLE, Tally())
    assert again.familiar is learned
    stranger = ways.way(
        replace(CT1, calling_ae_title="MR1"), "study", study[0].SOPClassUID, LITTLE, Tally()
    )
    assert stranger.familiar is not learned
    assert len(stored(layout)) == 6
