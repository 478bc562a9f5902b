"""The results that a run left: checked like received data, staged, or refused with a sentence.

A result has the study and the patient of the input, unless the stream changes
them, and a SOP Instance UID of its own.  What is not DICOM stays in OUTPUT for
download.  Nothing is registered here: `intake.results.register` does, with the
job's end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from appliance.amounts import count
from appliance.disk.layout import JobFolder, Layout
from appliance.errors import InstanceRefused
from appliance.index import catalog, job_list
from appliance.index.attempts import Finish
from appliance.index.catalog import Instance
from appliance.index.database import Database
from appliance.index.jobs import Job
from appliance.intake import results
from appliance.intake.digests import digest_of
from appliance.intake.results import StagedResult
from appliance.worker.output_files import Output, output_files
from appliance.worker.patients import Patients

_OWN_FILES = ("proc.json", "progress.json")
_DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
_SENTENCES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Rules:
    """What a harvest needs to know of the node, the stream and its run."""

    node_ae_title: str
    changes_patient: bool
    most_entries: int
    most_bytes: int  # of all results, counted by their length: a file with holes takes less
    owners: frozenset[int]  # the users whose files may be results


@dataclass(slots=True)
class Harvest:
    """What was found: results that are staged, and what became of everything else.

    `refused` are sentences, one for each result that is no good.  `others` counts
    the files that are no DICOM, `odd` the links, FIFOs, devices and the like.
    """

    staged: list[StagedResult] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    others: int = 0
    odd: int = 0
    same_as_input: int = 0
    copied_bytes: int = 0

    def refuse(self, one: StagedResult, why: str) -> None:
        """Take a staged result out again."""
        self.staged.remove(one)
        one.file.unlink(missing_ok=True)
        self.refused.append(f"{one.name} is no result: {why}.")


def harvest(db: Database, layout: Layout, job: Job, folder: JobFolder, rules: Rules) -> Harvest:
    """Stage every good result of an attempt; NoSpace, DiskError and IndexUnavailable."""
    with db.read() as connection:
        inputs = {one.sop_instance_uid: one for one in job_list.inputs_of(connection, job.id)}
        study = catalog.find_study(connection, job.study_uid)
    found = Harvest()
    for output in output_files(folder.output, rules.owners, rules.most_entries):
        _take(layout, job, output, rules, found)
    if not rules.changes_patient:
        _refuse_strangers(found, job, Patients(layout.root, list(inputs.values()), study))
    _drop_inputs(found, inputs, layout)
    _drop_doubles(found)
    refuse_taken(db, job, found)
    return found


def refuse_taken(db: Database, job: Job, found: Harvest) -> None:
    """Refuse the results whose SOP Instance UID is another instance's."""
    for one in results.taken(db, job, found.staged):
        found.refuse(one, "its SOP Instance UID is that of an instance that is kept already")


def told(end: Finish, found: Harvest) -> Finish:
    """Say in the job's end what was found: the outcome may get worse by it, never better."""
    said = [end.reason] if end.reason else []
    outcome = end.outcome
    if found.refused:
        outcome = "partial" if found.staged else "failed"
        said += found.refused[:_SENTENCES_SHOWN]
        if len(found.refused) > _SENTENCES_SHOWN:
            said.append(f"And {len(found.refused) - _SENTENCES_SHOWN} more.")
    if not found.staged and not found.refused:
        said.append(_nothing(found))
    elif found.others:
        said.append(f"{_kept(found.others)} for download.")
    if found.same_as_input and found.staged:
        said.append(f"Left out, as the input unchanged: {count(found.same_as_input, 'instance')}.")
    if found.odd:
        said.append(f"Left out, as links or special files: {count(found.odd, 'entry')}.")
    remedy = end.remedy or ("read its log; mend the stream" if found.refused else "")
    made = len(found.staged)
    return replace(end, outcome=outcome, reason=" ".join(said), remedy=remedy, result_count=made)


def _nothing(found: Harvest) -> str:
    if found.same_as_input:
        return "It made nothing: what it left is the input unchanged."
    if found.others:
        return f"It made no DICOM results; {_kept(found.others)} for download."
    return "It ended well but made nothing: its output is empty."


def _kept(others: int) -> str:
    return f"{count(others, 'other file')} {'is' if others == 1 else 'are'} kept"


def _take(layout: Layout, job: Job, output: Output, rules: Rules, found: Harvest) -> None:
    looks_dicom = output.shown.lower().endswith(_DICOM_ENDINGS)
    if output.file is None:
        if looks_dicom or not output.shown:
            found.refused.append(f"{output.shown or 'The output'} was left out: {output.why_not}.")
        else:
            found.odd += 1
        return
    with output.file as file:
        if output.shown in _OWN_FILES:
            return
        begins = file.read(132)
        is_directory = output.shown.upper().endswith("DICOMDIR")
        if is_directory or (begins[128:] != b"DICM" and not looks_dicom):
            found.others += 1
            return
        file.seek(0)
        found.copied_bytes += os.fstat(file.fileno()).st_size
        if found.copied_bytes > rules.most_bytes:
            why = "there is more than output_gb allows"
            found.refused.append(f"{output.shown} was left out: {why}.")
            return
        try:
            found.staged.append(
                results.stage(layout, job, output.shown, file, node_ae_title=rules.node_ae_title)
            )
        except InstanceRefused as error:
            found.refused.append(f"{output.shown} is no result: {error}")


def _refuse_strangers(found: Harvest, job: Job, patients: Patients) -> None:
    for one in list(found.staged):
        if one.header.study_uid != job.study_uid:
            found.refuse(one, "its Study Instance UID (0020,000D) is not that of the input")
        elif not patients.has(one.header.patient_id, one.header.patient_name):
            found.refuse(one, "its Patient ID or name is not that of the input")


def _drop_inputs(found: Harvest, inputs: Mapping[str, Instance], layout: Layout) -> None:
    """Take out what is the input itself, handed on; refuse what only has its UID."""
    for one in list(found.staged):
        source = inputs.get(one.header.sop_instance_uid)
        if source is None:
            continue
        digest = source.dataset_sha256 or digest_of(layout, source.path)
        if digest == one.dataset_sha256:
            found.staged.remove(one)
            one.file.unlink(missing_ok=True)
            found.same_as_input += 1
        else:
            found.refuse(one, "it has the SOP Instance UID of an input, and other content")


def _drop_doubles(found: Harvest) -> None:
    """Keep the first of several results with one UID; refuse a second with other content."""
    seen: dict[str, StagedResult] = {}
    for one in list(found.staged):
        first = seen.setdefault(one.header.sop_instance_uid, one)
        if first is one:
            continue
        if first.dataset_sha256 == one.dataset_sha256:
            found.staged.remove(one)
            one.file.unlink(missing_ok=True)
        else:
            found.refuse(one, f"it has the SOP Instance UID of {first.name}, and other content")
