"""One attempt of one delivery, in a thread of its own.

Statuses reach the index each second and at the end.  Every step may be killed: what
the index has not been told is sent again, and the peer knows it by its UID.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance import logs
from appliance.errors import AssociationFailed, IndexUnavailable
from appliance.index import deliveries, destinations, events, jobs
from appliance.index.catalog import Instance
from appliance.index.database import Database
from appliance.index.deliveries import Delivery, Sent
from appliance.router import ending, store_scu
from appliance.router.ending import Attempt, End
from appliance.router.rules import Destination
from appliance.router.store_scu import LATER, SENT, WARNING, Outgoing, Result
from appliance.settings import Settings

_FLUSH_SECONDS = 1.0
_AGAIN_SECONDS = 1.0
LEASE = timedelta(seconds=120)
_AFTER_OUR_ERROR = timedelta(minutes=5)
_STATES = {LATER: "waiting", SENT: "sent", WARNING: "warning"}


class Sending:
    """A delivery that is being sent; the service renews its lease meanwhile."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        delivery: Delivery,
        destination: Destination | None,
        when_done: Callable[[], None],
    ) -> None:
        self.delivery = delivery
        self._db = db
        self._settings = settings
        self._destination = destination
        self._when_done = when_done
        self._stop = threading.Event()
        self._end = threading.Event()
        self._unwritten: list[Sent] = []
        self._gone: list[Result] = []  # of which the index may know a file with other content
        self._written_at = time.monotonic()
        self._went = 0
        self._is_noted = False
        self._has_ended = False
        self._thread = threading.Thread(
            target=self._run, name=f"delivery {delivery.id}", daemon=True
        )

    @property
    def is_running(self) -> bool:
        """Say whether it holds a place of its destination still: until it tells of its end."""
        return not self._has_ended

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop after the instance that it is sending."""
        self._stop.set()

    def end(self) -> None:
        """Ask it to break off: the node must stop, or the delivery is another's now."""
        self._stop.set()
        self._end.set()

    def join(self, seconds: float) -> None:
        """Wait for it to end, at most so long."""
        self._thread.join(max(seconds, 0))

    def _run(self) -> None:
        d = self.delivery
        with logs.bound(delivery=d.id, job=d.job_id, destination=d.destination):
            try:
                self._attempt()
            except IndexUnavailable as error:
                logs.get().warning("index not available, the delivery waits", error=str(error))
            except Exception:  # noqa: BLE001 - the router's boundary: one bad delivery harms no other
                logs.get().exception("delivery broke off")
                self._end_with(_broken())
            finally:
                self._has_ended = True  # before the ring: who wakes must find the place free
                self._when_done()

    def _attempt(self) -> None:
        if self._destination is None:
            self._end_with(_no_destination(self.delivery))
            return
        logs.get().info("delivery started", attempt=self.delivery.attempt)
        problem: AssociationFailed | None = None
        try:
            self._send(self._destination, self._outgoing())
        except AssociationFailed as failed:
            problem = failed
        self._insist(self._flush)
        if self._went:
            self._insist(self._wake_others)
        self._end_with(self._judge(problem))

    def _send(self, destination: Destination, outgoing: list[Outgoing]) -> None:
        """Send all, and what was replaced meanwhile as it is now; it may have another syntax."""
        while outgoing:
            store_scu.send(
                destination,
                outgoing,
                self._settings,
                on_result=self._keep,
                must_stop=self._stop.is_set,
                must_end=self._tick,
            )
            outgoing = self._replaced()

    def _replaced(self) -> list[Outgoing]:
        """List those whose file was gone and whose row names another one by now."""
        if not self._gone:
            return []
        gone, self._gone = self._gone, []
        with self._db.read() as connection:
            found = deliveries.to_send(connection, self.delivery.id)
        now = {one.sop_instance_uid: _outgoing(self._settings.data_root, one) for one in found}
        moved = []
        for result in gone:
            one = now.get(result.outgoing.sop_instance_uid)
            if one is None or one.path == result.outgoing.path:
                self._note(result)
            else:
                moved.append(one)
        return moved

    def _outgoing(self) -> list[Outgoing]:
        """List what is to be sent: first what was never tried, last what broke off before."""
        with self._db.read() as connection:
            listed = deliveries.instances_of(connection, self.delivery.id)
            kept = {
                one.sop_instance_uid: one
                for one in deliveries.to_send(connection, self.delivery.id)
            }
        waiting = [one for one in listed if one.state == "waiting"]
        for one in waiting:
            if one.sop_instance_uid not in kept:
                gone = "It was removed from this node before it was sent."
                self._unwritten.append(replace(one, state="failed", message=gone, at=_now()))
        waiting.sort(key=lambda one: one.at is not None)
        return [
            _outgoing(self._settings.data_root, kept[one.sop_instance_uid])
            for one in waiting
            if one.sop_instance_uid in kept
        ]

    def _keep(self, result: Result) -> None:
        if result.is_gone:
            self._gone.append(result)
        else:
            self._note(result)

    def _note(self, result: Result) -> None:
        self._went += result.kind in (SENT, WARNING)
        state = _STATES.get(result.kind, "failed")
        uid = result.outgoing.sop_instance_uid
        self._unwritten.append(Sent(uid, state, result.status, result.sentence, _now()))
        self._tick()

    def _tick(self) -> bool:
        """Write statuses when a second has passed; say whether to break off."""
        if self._unwritten and time.monotonic() - self._written_at >= _FLUSH_SECONDS:
            try:
                self._flush()
            except IndexUnavailable as error:
                self._written_at = time.monotonic()
                logs.get().warning("statuses wait for the index", error=str(error))
        return self._end.is_set()

    def _flush(self) -> None:
        if self._unwritten:
            deliveries.note_instances(self._db, self.delivery, self._unwritten)
            self._unwritten = []
        self._written_at = time.monotonic()

    def _wake_others(self) -> None:
        if count := destinations.is_back(self._db, self.delivery.destination, _now()):
            logs.get().info("the destination is back", deliveries_that_waited=count)

    def _judge(self, problem: AssociationFailed | None) -> End:
        with self._db.read() as connection:
            instances = deliveries.instances_of(connection, self.delivery.id)
        attempt = Attempt(
            str(self._destination), instances, self._went, problem, self._stop.is_set()
        )
        return ending.decide(self.delivery, attempt, self._settings.router, _now(), random.random())

    def _end_with(self, end: End) -> None:
        self._insist(lambda: self._move(end))

    def _move(self, end: End) -> None:
        d, now = self.delivery, _now()
        if end.move == ending.RETRY:
            moved = deliveries.retry_at(self._db, d, end.due_at or now, end.message, end.remedy)
            if moved and not self._stop.is_set():
                logs.get().warning("delivery is tried again later", why=end.message)
            return
        if not deliveries.renew(self._db, d, LEASE, now):
            return
        # The event comes first: a transfer may be told of twice, but never not at all.
        if not self._is_noted:
            self._note_event(end, now)
            self._is_noted = True
        if end.move == ending.GIVE_UP:
            self._give_up_waiting(now)
            deliveries.give_up(self._db, d, end.message, end.remedy, now)
            logs.get().error("delivery given up", what=end.message, remedy=end.remedy)
        else:
            deliveries.delivered(self._db, d, end.message, now)
            logs.get().info("delivery delivered", what=end.message)

    def _give_up_waiting(self, now: datetime) -> None:
        with self._db.read() as connection:
            listed = deliveries.instances_of(connection, self.delivery.id)
        given_up = [
            replace(one, state="failed", message=one.message or "It was never tried.", at=now)
            for one in listed
            if one.state == "waiting"
        ]
        deliveries.note_instances(self._db, self.delivery, given_up)

    def _note_event(self, end: End, now: datetime) -> None:
        d = self.delivery
        kind = "delivery given up" if end.move == ending.GIVE_UP else "delivery delivered"
        with self._db.write() as connection:
            events.append(
                connection,
                kind,
                end.message,
                now,
                who="router",
                study_uid=jobs.get(connection, d.job_id).study_uid,
                job_id=d.job_id,
                delivery=d.id,
                destination=d.destination,
                attempt=d.attempt,
            )

    def _insist(self, step: Callable[[], None]) -> None:
        """Do a step that needs the index, again and again until it works or all must end."""
        while True:
            try:
                return step()
            except IndexUnavailable:
                if self._end.wait(_AGAIN_SECONDS):
                    raise


def _outgoing(data_root: Path, instance: Instance) -> Outgoing:
    return Outgoing(
        instance.sop_class_uid,
        instance.sop_instance_uid,
        instance.transfer_syntax_uid,
        data_root / instance.path,
        instance.size_bytes,
    )


def _no_destination(delivery: Delivery) -> End:
    return End(
        ending.GIVE_UP,
        f"There is no destination {delivery.destination} in routing.yaml any more.",
        f"add it again, then: brookbox deliveries resend {delivery.id}",
    )


def _broken() -> End:
    return End(
        ending.RETRY,
        "An error of Brookbox itself broke it off; the router's log has the details.",
        "brookbox doctor, and report the error",
        _now() + _AFTER_OUR_ERROR,
    )


def _now() -> datetime:
    return datetime.now(UTC)
