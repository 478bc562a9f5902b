"""From ended jobs to deliveries: what the rules say becomes rows, once for each job.

`plan` is also the dry run of the pages and of `brookbox routing explain`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance import logs
from appliance.errors import NotFound
from appliance.index import arrivals, catalog, deliveries, events, job_list, jobs
from appliance.index.catalog import Instance
from appliance.index.database import Database
from appliance.index.jobs import Job
from appliance.index.states import OUTCOME_STATES
from appliance.router import own_node
from appliance.router.host_names import addresses_soon
from appliance.router.match import Ended, Plan, Sender, match
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
    ended, instances = _facts(db, job)
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
    return found in addresses_soon(destination.host)


def _facts(db: Database, job: Job) -> tuple[Ended, list[Instance]]:
    with db.read() as connection:
        outputs = catalog.results_of(connection, job.id)
        inputs = job_list.inputs_of(connection, job.id)
        senders = arrivals.senders_of(connection, job.ae_title, job.study_uid, job.series_uid)
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
    note = _note(what, routing, job)
    if not _write(db, job, what, note, now):
        return False
    with logs.bound(job=job.id, study=job.study_uid):
        logs.get().info("job routed", deliveries=len(what.matches), note=note)
        if what.notes and job.superseded_by is None:
            logs.get().warning("not everything is delivered", note=note)
    return True


def _write(db: Database, job: Job, what: Plan, note: str, now: datetime) -> bool:
    """Make the deliveries and note that the job was routed, or nothing of it.

    It may have been superseded, held or queued again since it was listed.
    """
    with db.write() as connection:
        try:
            seen = jobs.get(connection, job.id)
        except NotFound:  # its study was erased
            return False
        if _version(seen) != _version(job):
            return False
        if not deliveries.mark_routed(connection, job.id, note, now):
            return False
        for one in what.matches:
            facts: dict[str, Any] = {
                "job_id": job.id,
                "destination": one.destination,
                "what": one.what,
                "instances": one.instances,
                "now": now,
            }
            # There is one already when a failed job was routed and then tried again.
            if deliveries.create(connection, rule=one.rule, **facts) is None:
                deliveries.extend(connection, **facts)
        if what.notes and job.superseded_by is None:
            events.append(
                connection,
                "routing incomplete",
                note,
                now,
                who="router",
                study_uid=job.study_uid,
                job_id=job.id,
            )
    return True


def _version(job: Job) -> tuple[str, int, int | None]:
    return job.state, job.attempt, job.superseded_by


def _note(what: Plan, routing: Routing, job: Job) -> str:
    said = list(what.notes)
    if what.matches:
        parts = [
            f"{len(one.instances)} {one.what} to {one.destination} (rule {one.rule})"
            for one in what.matches
        ]
        said.insert(0, f"To be delivered: {'; '.join(parts)}.")
    elif not what.notes and not what.rules:
        why = "No rule matches" if routing.rules else "There are no routing rules"
        stays = "the results stay on this node" if job.result_count else "there are no results"
        said.append(f"{why}: {stays}.")
    return " ".join(said)
