"""One attempt of a job: prepare, run, import results; each step may be killed and repeated.

The attempt's number fences it: when another attempt has become the current one,
this one stops quietly and leaves nothing behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from appliance import logs
from appliance.errors import BrookboxError, DiskError, DoesNotMatch, IndexUnavailable, LeaseLost
from appliance.index import attempts, catalog, job_list, jobs
from appliance.index.attempts import Finish
from appliance.index.catalog import Instance
from appliance.index.jobs import Job
from appliance.index.states import ENDED
from appliance.intake import results
from appliance.intake.results import StagedResult
from appliance.streams.catalog import Stream
from appliance.streams.limits import limits_of
from appliance.worker import harvest, outcome, record
from appliance.worker.executor import Ended, Executor, Run
from appliance.worker.lease import Lease
from appliance.worker.outcome import Cancelled, Done, PutBack
from appliance.worker.prepare import prepare
from appliance.worker.progress import read_proc
from appliance.worker.site import Site

T = TypeVar("T")

_INDEX_PAUSE_SECONDS = 1.0
# Two streams may work on one study at once: each job has series numbers of its own.
_FIRST_SERIES_NUMBER = 9000
_SERIES_A_JOB = 100


def run_job(site: Site, job: Job, stream: Stream, executor: Executor) -> None:
    """Run one claimed attempt to its end, whatever that is."""
    with logs.bound(job=job.id, study=job.study_uid, stream=job.ae_title, attempt=job.attempt):
        logs.get().info("job started", executor=executor.name, instances=job.input_count)
        attempt = _Attempt(site, job, stream, executor)
        try:
            with Lease(site, job) as lease:
                attempt.lease = lease
                attempt.go()
        except LeaseLost:
            logs.get().warning("lease lost, another attempt is the current one")
            results.sweep_staged(site.layout, job.id, below_attempt=job.attempt + 1)


def put_back(site: Site, job: Job, why: PutBack) -> None:
    """Put an attempt back into the queue; LeaseLost when it is not the current one."""
    now = datetime.now(UTC)
    pause = timedelta(seconds=site.settings.jobs.retry_seconds)
    state = attempts.requeue(
        site.db,
        job,
        now,
        reason=why.reason,
        counts=why.counts,
        max_attempts=site.settings.jobs.max_attempts,
        not_before=now + pause if why.after_pause else None,
    )
    results.sweep_staged(site.layout, job.id, below_attempt=job.attempt + 1)
    logs.get().warning("job put back", state=state, counts=why.counts)
    site.ring("dispatcher")


class _Attempt:
    lease: Lease

    def __init__(self, site: Site, job: Job, stream: Stream, executor: Executor) -> None:
        self._site = site
        self._job = job
        self._stream = stream
        self._executor = executor
        self._folder = site.layout.job(job.id)

    def go(self) -> None:
        """Run the steps, and end the attempt as they say."""
        try:
            ended = self._patiently(self._prepare) or self._run()
            said = read_proc(self._folder)
            decided = outcome.decide(self._job, ended, said)
            if self.lease.is_lost:
                raise _lost(self._job)
            self._patiently(lambda: self._end(decided))
        except (LeaseLost, IndexUnavailable):
            raise
        except BrookboxError as error:  # the machine's fault: no space, most likely
            again = outcome.put_back(self._job, str(error), after_pause=True)
            self._patiently(lambda: put_back(self._site, self._job, again))
        self._patiently(self._tell)

    def _end(self, decided: PutBack | Cancelled | Done) -> None:
        match decided:
            case PutBack():
                put_back(self._site, self._job, decided)
            case Cancelled():
                with self._site.db.write() as connection:
                    attempts.finish_cancelled(connection, self._job, datetime.now(UTC))
            case Done():
                self._import(decided)

    def _prepare(self) -> Ended | None:
        """Make the folder; an end when there is nothing to run on, or nobody wants it any more."""
        site, job = self._site, self._job
        attempts.begin_step(site.db, job, "prepare", datetime.now(UTC))
        if job.attempt > 1:
            site.sweep()
            results.sweep_staged(site.layout, job.id, below_attempt=job.attempt)
        instances = self._inputs()
        if len(instances) < job.input_count:
            return _input_gone(job, len(instances))
        if (files := self._count_files(instances)) < len(instances):
            # Other content may have taken the place of one since its row was read.
            instances = self._inputs()
            files = self._count_files(instances)
        # Without the folder it is the volume that is away, and the job waits for it.
        if files < len(instances) and site.layout.studies.is_dir():
            return _files_gone(job, files)
        copy = self._executor.wants_copy(self._stream)
        with site.db.read() as connection:
            earlier = job_list.earlier_of_study(connection, job)
        told = {
            "first_series_number": _FIRST_SERIES_NUMBER + _SERIES_A_JOB * earlier,
            "image": self._stream.good_info.image if self._executor.name == "container" else "",
        }
        prepare(site.layout, job, self._stream, instances, copy=copy, told=told)
        if self.lease.is_cancelled():
            return Ended("cancelled", None, "", "")
        return None

    def _inputs(self) -> list[Instance]:
        with self._site.db.read() as connection:
            uids = [one.sop_instance_uid for one in job_list.inputs_of(connection, self._job.id)]
            return catalog.find_instances(connection, uids)

    def _count_files(self, instances: list[Instance]) -> int:
        return sum((self._site.layout.root / one.path).is_file() for one in instances)

    def _run(self) -> Ended:
        site, job, info = self._site, self._job, self._stream.good_info
        self._note_run(executor=self._executor.name, image=info.image)
        self._patiently(lambda: attempts.begin_step(site.db, job, "run", datetime.now(UTC)))
        run = Run(
            job=job,
            stream=self._stream,
            folder=self._folder,
            limits=limits_of(info, site.settings),
            devices=tuple(filter(None, job.gpu_devices.split(","))),
            worker=site.worker,
        )
        ended = self._executor.run(run, self.lease)
        logs.get().info("run ended", how=ended.how, exit_code=ended.exit_code)
        self._patiently(self.lease.note_progress)
        self._note_run(image=ended.image, image_id=ended.image_id)
        return ended

    def _note_run(self, **facts: object) -> None:
        self._patiently(lambda: attempts.note_run(self._site.db, self._job, **facts))

    def _import(self, done: Done) -> None:
        """Register the results and end the attempt, in one transaction."""
        site, job = self._site, self._job
        attempts.begin_step(site.db, job, "import results", datetime.now(UTC))
        if not done.takes_results:
            self._register(done.end, [])
            return
        found = harvest.harvest(site.db, site.layout, job, self._folder, self._rules())
        try:
            self._register(harvest.told(done.end, found), found.staged)
        except DoesNotMatch:  # an instance with such a UID came in since it was looked for
            harvest.refuse_taken(site.db, job, found)
            self._register(harvest.told(done.end, found), found.staged)

    def _register(self, end: Finish, staged: list[StagedResult]) -> None:
        site, job = self._site, self._job
        held = job.incomplete and site.settings.jobs.hold_incomplete
        end = replace(end, is_held=held)
        results.register(site.db, site.layout, job, staged, end, datetime.now(UTC))

    def _tell(self) -> None:
        """Tell everybody what became of the job; nothing when it only goes again."""
        site, job = self._site, self._job
        with site.db.read() as connection:
            ended = jobs.get(connection, job.id)
        if ended.state not in ENDED:
            return
        logs.get().info("job ended", state=ended.state, results=ended.result_count)
        site.ring("router")
        try:
            record.settle(site.db, site.layout, job.id)
        except DiskError as error:  # tried again with the next tidying
            logs.get().warning("job not recorded", said=str(error))

    def _rules(self) -> harvest.Rules:
        limits = limits_of(self._stream.good_info, self._site.settings)
        return harvest.Rules(
            node_ae_title=self._site.settings.node.ae_title,
            changes_patient=self._stream.good_info.changes_patient,
            most_entries=limits.output_files,
            most_bytes=limits.output_bytes,
            owners=self._site.owners,
        )

    def _patiently(self, act: Callable[[], T]) -> T:
        """Do something that may be repeated, while the index is away and the attempt is ours."""
        while True:
            try:
                return act()
            except IndexUnavailable as error:
                if self.lease.is_lost:
                    raise _lost(self._job) from error
                logs.get().warning("the index is away, the attempt waits", said=str(error))
                time.sleep(_INDEX_PAUSE_SECONDS)


def _input_gone(job: Job, kept: int) -> Ended:
    return Ended(
        "exited",
        None,
        f"Only {kept} of its {job.input_count} instances are kept any more.",
        f"send the study again to {job.ae_title}",
    )


def _files_gone(job: Job, there: int) -> Ended:
    return Ended(
        "exited",
        None,
        f"Only {there} of its {job.input_count} instances have a file in the store.",
        f"brookbox index check tells which are missing; or send the study again to {job.ae_title}",
    )


def _lost(job: Job) -> LeaseLost:
    return LeaseLost(f"attempt {job.attempt} of job {job.id} was given up", remedy="nothing")
