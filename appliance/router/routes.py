"""From ended jobs to deliveries: what the rules say becomes rows, once for each job.

`plan` is also the dry run of the pages and of `brookbox routing explain`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from appliance import logs
from appliance.index import arrivals, catalog, deliveries, events, job_list, jobs
from appliance.index.catalog import Instance
from appliance.index.database import Database
from appliance.index.jobs import Job
from appliance.index.states import OUTCOME_STATES
from appliance.router import own_node
from appliance.router.match import Ended, Match, Plan, Sender, match
from appliance.router.routing_watch import InForce
from appliance.router.rules import Destination, Routing
from appliance.router.tag_reader import TagReader

_OUTCOMES = {str(state): outcome for outcome, state in OUTCOME_STATES.items()}


def route_ended_jobs(db: Database, data_root: Path, rules: InForce, now: datetime) -> int:
    """Make the deliveries of every ended job that was not looked at yet; how many jobs.

    While no good rules are known nothing is done: the jobs wait.
    """
    if not rules.is_known:
        return 0
    with db.read() as connection:
        ended = job_list.unrouted_jobs(connection)
    return sum(_route(db, data_root, rules.routing, job, now) for job in ended)


def plan(db: Database, data_root: Path, routing: Routing, job: Job) -> Plan:
    """Say what the rules make of an ended job; nothing is changed."""
    with db.read() as connection:
        ended, instances = _facts(connection, job)
    paths = {one.sop_instance_uid: data_root / one.path for one in instances}
    return match(ended, routing, TagReader(paths, routing), sends_from)


def sends_from(destination: Destination, address: str) -> bool:
    """Say whether an address is that of a destination: its host's, or one of `sends_from`."""
    try:
        found = own_node.plain(address)
    except ValueError:
        return False
    if any(found in ipaddress.ip_network(one) for one in destination.sends_from):
        return True
    return found in own_node.addresses_of(destination.host)


def _facts(connection: sa.Connection, job: Job) -> tuple[Ended, list[Instance]]:
    outputs = catalog.results_of(connection, job.id)
    inputs = job_list.inputs_of(connection, job.id)
    senders = arrivals.senders_of(connection, job.ae_title, job.study_uid)
    ended = Ended(
        called_ae_title=job.ae_title,
        calling_ae_title=job.calling_ae_title,
        outcome=_OUTCOMES.get(job.state, "failed"),
        outputs=_uids(outputs),
        inputs=_uids(inputs),
        senders=tuple(Sender(one.calling_ae_title, one.address) for one in senders),
    )
    return ended, [*outputs, *inputs]


def _uids(instances: Iterable[Instance]) -> tuple[str, ...]:
    return tuple(one.sop_instance_uid for one in instances)


def _route(db: Database, data_root: Path, routing: Routing, job: Job, now: datetime) -> bool:
    if job.superseded_by is not None:
        what = Plan(notes=(f"Not delivered: job {job.superseded_by} has more of the study.",))
    else:
        what = plan(db, data_root, routing, job)
    note = _note(what, routing)
    with db.write() as connection, logs.bound(job=job.id, study=job.study_uid):
        # It may have been superseded, held or queued again since it was listed.
        seen = jobs.get(connection, job.id)
        if (seen.state, seen.attempt, seen.superseded_by) != (
            job.state,
            job.attempt,
            job.superseded_by,
        ):
            return False
        if not deliveries.mark_routed(connection, job.id, note, now):
            return False
        for one in what.matches:
            _create(connection, job, one, now)
        if what.notes and not job.superseded_by:
            _warn(connection, job, note, now)
    logs.get().info("job routed", job=job.id, deliveries=len(what.matches), note=note)
    return True


def _create(connection: sa.Connection, job: Job, one: Match, now: datetime) -> None:
    made = deliveries.create(
        connection,
        job_id=job.id,
        destination=one.destination,
        what=one.what,
        rule=one.rule,
        instances=one.instances,
        now=now,
    )
    if made is None:
        # A job that failed was routed, and a person had it tried again.
        deliveries.extend(
            connection,
            job_id=job.id,
            destination=one.destination,
            what=one.what,
            instances=one.instances,
            now=now,
        )


def _warn(connection: sa.Connection, job: Job, note: str, now: datetime) -> None:
    logs.get().warning("not everything is delivered", note=note)
    events.append(
        connection,
        "routing incomplete",
        note,
        now,
        who="router",
        study_uid=job.study_uid,
        job_id=job.id,
    )


def _note(what: Plan, routing: Routing) -> str:
    said = list(what.notes)
    if what.matches:
        parts = [
            f"{len(one.instances)} {one.what} to {one.destination} (rule {one.rule})"
            for one in what.matches
        ]
        said.insert(0, f"To be delivered: {'; '.join(parts)}.")
    elif not what.notes and not what.rules:
        why = "No rule matches" if routing.rules else "There are no routing rules"
        said.append(f"{why}: the results stay on this node.")
    return " ".join(said)
