"""The stream of an association is cut anywhere: in fragments, PDUs and what TCP delivers."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.raw_scu import Cut, RawSCU, pdu
from tests.service.conftest import Receiver
from tests.service.receiver.sent import BOTH, CT, STORAGE, assert_kept, ct_of, digest_kept

QUICK = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
HOWS = ("abort", "reset", "close")
sizes = st.lists(st.integers(0, 9000), min_size=1, max_size=12)
cuts = st.lists(st.integers(0, 1 << 30), max_size=12)


def cut_of(command: list[int], data_set: list[int], pdvs: int, ends_empty: bool) -> Cut:
    def turns(of: list[int]) -> object:
        # Now and then a long one, so that it ends.
        queue = [*of, 20_000]
        return lambda: queue[0] if queue.append(queue.pop(0)) is None else 0  # type: ignore[func-returns-value]

    return Cut(
        command=turns(command), data_set=turns(data_set), pdvs=lambda: pdvs,  # type: ignore[arg-type]
        ends_empty=ends_empty, joins_messages=True,
    )  # fmt: skip


@QUICK
@given(sizes, sizes, st.integers(1, 6), st.booleans(), cuts, st.integers(300, 60_000))
def test_whatever_the_cuts_what_is_kept_is_what_was_sent(
    shared: Receiver, command: list[int], data_set: list[int], pdvs: int, ends_empty: bool,
    places: list[int], size: int,
) -> None:  # fmt: skip
    with RawSCU(shared.port, BOTH) as scu:
        cut = cut_of(command, data_set, pdvs, ends_empty)
        sent = [ct_of(size, 1), ct_of(size // 2 + 300, 2)]
        stream = b"".join(
            scu.store_stream(one.data_set, CT, one.sop_instance_uid, STORAGE, cut) for one in sent
        )
        at = 0
        for place in sorted(place % len(stream) for place in places):
            scu.socket.sendall(stream[at:place])
            at = place
        scu.socket.sendall(stream[at:])
        assert [scu.response().status for _ in sent] == [0, 0]
        scu.release()
    assert_kept(shared, *sent)


@QUICK
@given(
    sizes, st.integers(1, 4), st.integers(0, 1 << 30), st.sampled_from(["abort", "reset", "close"])
)
def test_wherever_the_stream_ends_only_what_was_answered_is_there(
    shared: Receiver, data_set: list[int], pdvs: int, place: int, how: str
) -> None:
    scu = RawSCU(shared.port, BOTH)
    cut = cut_of([100], data_set, pdvs, False)
    kept, lost = ct_of(2_000, 1), ct_of(30_000, 2)
    assert scu.store(kept.data_set, CT, kept.sop_instance_uid, STORAGE, cut) == 0
    stream = scu.store_stream(lost.data_set, CT, lost.sop_instance_uid, STORAGE, cut)
    scu.socket.sendall(stream[: place % (len(stream) - 1)])
    getattr(scu, how)()
    with RawSCU(shared.port, BOTH) as again:  # what comes after it meets nothing of it
        assert again.store(lost.data_set, CT, lost.sop_instance_uid, STORAGE, cut) == 0
        again.release()
    assert digest_kept(shared, kept.sop_instance_uid) == kept.digest
    assert digest_kept(shared, lost.sop_instance_uid) == lost.digest


@QUICK
@given(st.binary(max_size=400), st.integers(0, 255))
def test_whatever_comes_after_an_association_ends_nothing_else(
    shared: Receiver, noise: bytes, kind: int
) -> None:
    scu = RawSCU(shared.port, BOTH)
    one = ct_of(1_000, 1)
    assert scu.store(one.data_set, CT, one.sop_instance_uid, STORAGE) == 0
    scu.socket.sendall(pdu(kind, noise) if len(noise) % 2 else noise)
    scu.close()
    assert_kept(shared, one)
