"""What is familiar makes the walk faster and changes nothing of what it finds."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from appliance.dicom.familiar import Familiar
from appliance.dicom.header import Header, read_header
from appliance.dicom.quick_walk import Walk
from appliance.dicom.structure import Encoding
from appliance.dicom.walker import header_of_start, read_start
from appliance.errors import InstanceRefused
from tests.kit import generated, require
from tests.kit.dicom import ct_slice
from tests.kit.generated import IMPLICIT, LITTLE
from tests.unit.dicom.test_header import encoded
from tests.unit.dicom.test_walker import data_set_of


def walked(
    data: bytes, syntax: str, cut: int, familiar: Familiar | None
) -> tuple[object, Header | None]:
    start = read_start(memoryview(data)[:cut], syntax, cut >= len(data), familiar)
    return start, start and header_of_start(start, len(data), syntax)


def series(number: int, count: int = 20) -> list[bytes]:
    """Images of one series, as a scanner makes them."""
    made = []
    for image in range(count):
        ds = ct_slice(image + 1, size=64)
        ds.SeriesInstanceUID = f"1.2.3.{number}"
        ds.SeriesNumber = number
        ds.SeriesDescription = f"Series {number}"
        ds.SliceLocation = image * 1.25
        made.append(encoded(ds))
    return made


def test_images_of_series_after_series_are_walked_as_each_alone() -> None:
    familiar = Familiar()
    for data in [*series(1), *series(22), *series(3), *series(1, 2), *series(4)]:
        for cut in (4000, len(data)):
            assert walked(data, LITTLE, cut, familiar) == walked(data, LITTLE, cut, None)
            assert walked(data, LITTLE, cut, familiar)[1] == read_header(data, LITTLE)


def test_from_the_third_image_on_few_elements_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[int] = []
    one_at_a_time = Walk.on

    def on(walk: Walk, at: int, until: int) -> int:
        end = one_at_a_time(walk, at, until)
        walks.append(end - at if end <= len(walk.view) else 0)
        return end

    familiar, images = Familiar(), [*series(1), *series(22)]
    for data in images[:2]:
        read_start(memoryview(data)[:4000], LITTLE, False, familiar)
    monkeypatch.setattr(Walk, "on", on)
    header = images[0].rindex(b"\xe0\x7f\x10\x00OW")
    for number, data in enumerate(images[2:], 3):
        walks.clear()
        read_start(memoryview(data)[:4000], LITTLE, False, familiar)
        # A new series is walked once where it differs; then its bytes are known.
        assert sum(walks) < (header if number == 21 else header / 2), number


@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT, generated.BIG])
def test_what_is_spoilt_after_much_that_was_alike_is_judged_as_it_is(syntax: str) -> None:
    dice = random.Random(syntax)
    familiar = Familiar()
    for _ in range(400):
        data = bytearray(encoded(ct_slice(dice.randrange(1, 30), size=16), syntax))
        if dice.random() < 0.5:
            data[dice.randrange(1200)] = dice.randrange(256)
        if dice.random() < 0.1:
            at = data.find(b"Seeded")
            data[at:at] = bytes(2)
        cut = dice.choice((len(data), 1300, 1250))
        found = walked(bytes(data), syntax, cut, familiar)
        assert found == walked(bytes(data), syntax, cut, None)


def test_generated_data_sets_mixed_up_are_walked_as_each_alone() -> None:
    made = list(generated.headers(300))
    dice = random.Random(4)
    familiars = {one.transfer_syntax_uid: Familiar() for one in made}
    for _ in range(150):
        one, other = dice.choice(made), dice.choice(made)
        for each in (one, one, other, one, one):
            syntax = each.transfer_syntax_uid
            for cut in (len(each.data), len(each.data) // 2, 3000):
                found = walked(each.data, syntax, cut, familiars[syntax])
                assert found == walked(each.data, syntax, cut, None), each


def test_what_depends_on_the_size_of_a_data_set_is_not_taken_from_another() -> None:
    # An open implicit item whose first length looks like a value representation: whether it
    # is one depends on how much is left.
    head = struct.pack("<HHL", 0x0040, 0xA730, 0xFFFFFFFF)
    inner = struct.pack("<HHL", 0x0008, 0x0100, int.from_bytes(b"LO\4\0", "little"))
    open_item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + b"abcd"
    ends = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    begin = encoded(ct_slice(size=2), IMPLICIT)
    small = begin + head + open_item + ends
    familiar = Familiar()
    for data in (small, small, small, small + bytes(400_000), small):
        found = walked(data, IMPLICIT, len(data), familiar)
        assert found == walked(data, IMPLICIT, len(data), None)
        try:
            assert found[1] in (None, read_header(data, IMPLICIT))
        except InstanceRefused:
            assert found[1] is None


def test_images_with_nothing_in_common_cost_no_lasting_effort(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learned: list[bytes] = []
    learn = Familiar._learn

    def counted(familiar: Familiar, before: bytes, walk: Walk, encoding: Encoding) -> None:
        learned.append(before)
        learn(familiar, before, walk, encoding)

    monkeypatch.setattr(Familiar, "_learn", counted)
    familiar = Familiar()
    for one in generated.headers(600):
        if one.transfer_syntax_uid == LITTLE:
            read_start(memoryview(one.data)[:4000], LITTLE, False, familiar)
    assert 1 <= len(learned) < 40


@pytest.mark.parametrize("folder", ["ct-abdomen", "ct-head", "mr-t1", "mr-brain", "compressed"])
def test_real_images_in_a_row_are_walked_as_each_alone(folder: str) -> None:
    familiars: dict[str, Familiar] = {}
    for path in sorted((require.real_data() / folder).rglob("*.dcm")):
        data, syntax = data_set_of(Path(path)) or (b"", "")
        familiar = familiars.setdefault(syntax, Familiar())
        found = walked(data, syntax, 131_072, familiar)
        assert found == walked(data, syntax, 131_072, None), path
