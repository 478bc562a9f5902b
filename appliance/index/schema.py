"""The tables of the index, as SQLAlchemy Core knows them.

The module that owns a table's moves is named beside it.  Times are aware UTC
datetimes.  Migrations in `migrations/` make the same tables, with the indexes of
`partial_indexes`; a test compares.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa


class Utc(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime, kept as fixed-width text so that both engines order it alike."""

    impl = sa.String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:
        """Give the text; a naive datetime is a mistake of ours and raises ValueError."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without zone reached the index")
        return value.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Give the aware datetime back."""
        if value is None:
            return None
        return datetime.fromisoformat(value)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# AUTOINCREMENT: an id that was once given is never given again.
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _table(name: str, *parts: Any) -> sa.Table:
    return sa.Table(name, metadata, *parts, sqlite_autoincrement=True)


# -- index.catalog ---------------------------------------------------------------------------

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("study_uid", sa.String(64), primary_key=True),
    sa.Column("patient_id", sa.Text, nullable=False, default=""),
    sa.Column("patient_name", sa.Text, nullable=False, default=""),
    sa.Column("birth_date", sa.Text, nullable=False, default=""),
    sa.Column("sex", sa.Text, nullable=False, default=""),
    sa.Column("study_date", sa.Text, nullable=False, default=""),
    sa.Column("study_time", sa.Text, nullable=False, default=""),
    sa.Column("study_id", sa.Text, nullable=False, default=""),
    sa.Column("accession_number", sa.Text, nullable=False, default=""),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("referring_physician", sa.Text, nullable=False, default=""),
    sa.Column("first_received_at", Utc, nullable=False, index=True),
    sa.Column("last_received_at", Utc, nullable=False, index=True),
    # Since when it is being erased: nothing joins it any more (index.erasure).
    sa.Column("going_since", Utc, nullable=True),
)

series = sa.Table(
    "series",
    metadata,
    sa.Column("series_uid", sa.String(64), primary_key=True),
    sa.Column(
        "study_uid", sa.String(64), sa.ForeignKey("studies.study_uid"), nullable=False, index=True
    ),
    sa.Column("modality", sa.Text, nullable=False, default=""),
    sa.Column("number", sa.Text, nullable=False, default=""),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("body_part", sa.Text, nullable=False, default=""),
)

instances = sa.Table(
    "instances",
    metadata,
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column(
        "series_uid", sa.String(64), sa.ForeignKey("series.series_uid"), nullable=False, index=True
    ),
    sa.Column("study_uid", sa.String(64), nullable=False, index=True),
    sa.Column("sop_class_uid", sa.String(64), nullable=False),
    sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
    sa.Column("instance_number", sa.Text, nullable=False, default=""),
    sa.Column("path", sa.Text, nullable=False, unique=True),  # below data_root
    sa.Column("size_bytes", sa.BigInteger, nullable=False),  # of the whole file
    sa.Column("dataset_sha256", sa.String(64), nullable=False),  # of the data set as sent
    sa.Column("received_at", Utc, nullable=False),
    sa.Column("made_by_job", sa.BigInteger, nullable=True, index=True),  # a result of ours
    # What is not as the standard wants it and was kept all the same: words of dicom.marks.
    sa.Column("marks", sa.Text, nullable=False, default="", server_default=""),
)

# -- index.arrivals --------------------------------------------------------------------------

associations = sa.Table(
    "associations",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("called_ae_title", sa.String(16), nullable=False),
    sa.Column("calling_ae_title", sa.String(16), nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("process", sa.Text, nullable=False),  # ids.ProcessName of the receiver's worker
    sa.Column("opened_at", Utc, nullable=False, index=True),
    sa.Column("last_activity_at", Utc, nullable=False),
    sa.Column("closed_at", Utc, nullable=True, index=True),
    sa.Column("ending", sa.String(16), nullable=True),  # states.Ending
    sa.Column("instances", sa.Integer, nullable=False, default=0),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
)

arrivals = _table(
    "arrivals",
    sa.Column("id", _Id, primary_key=True),
    sa.Column("called_ae_title", sa.String(16), nullable=False),
    sa.Column("study_uid", sa.String(64), nullable=False, index=True),
    sa.Column("series_uid", sa.String(64), nullable=False, default=""),  # with level series
    sa.Column("state", sa.String(16), nullable=False),  # open | closed
    sa.Column("opened_at", Utc, nullable=False),
    sa.Column("last_instance_at", Utc, nullable=False),
    sa.Column("closed_at", Utc, nullable=True, index=True),
    sa.Column("reason", sa.Text, nullable=False, default=""),  # why it was closed, for a person
    sa.Column("incomplete", sa.Boolean, nullable=False, default=False),
    sa.Column("digest", sa.String(64), nullable=False, default=""),
    sa.Column("note", sa.Text, nullable=False, default=""),  # such as: identical to job 12
    sa.Column("job_id", sa.BigInteger, nullable=True, index=True),  # made, or identical to
)
# At most one is open of a kind: partial_indexes.py.

receptions = _table(
    "receptions",
    sa.Column("id", _Id, primary_key=True),
    sa.Column(
        "sop_instance_uid",
        sa.String(64),
        sa.ForeignKey("instances.sop_instance_uid"),
        nullable=False,
        index=True,
    ),
    sa.Column("study_uid", sa.String(64), nullable=False),
    sa.Column("called_ae_title", sa.String(16), nullable=False),
    sa.Column("calling_ae_title", sa.String(16), nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("association_id", sa.String(32), nullable=False),
    sa.Column("received_at", Utc, nullable=False),
    sa.Column("arrival_id", sa.BigInteger, nullable=True, index=True),
    # What came was other content than what is kept, and is in quarantine.
    sa.Column("is_conflict", sa.Boolean, nullable=False, default=False),
    sa.UniqueConstraint("association_id", "sop_instance_uid", "arrival_id"),
    sa.Index("ix_receptions_called_study", "called_ae_title", "study_uid"),
)

arrival_associations = sa.Table(
    "arrival_associations",
    metadata,
    sa.Column("arrival_id", sa.BigInteger, primary_key=True),
    sa.Column("association_id", sa.String(32), primary_key=True, index=True),
    sa.Column("last_instance_at", Utc, nullable=False),
)

senders = sa.Table(  # what is learned of each calling AE title
    "senders",
    metadata,
    sa.Column("calling_ae_title", sa.String(16), primary_key=True),
    sa.Column("quiet_seconds", sa.Float, nullable=False),
    sa.Column("clean_arrivals", sa.Integer, nullable=False, default=0),
)

# -- index.lanes -----------------------------------------------------------------------------

lanes = sa.Table(
    "lanes",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # worker process, AE title, number
    sa.Column("worker", sa.Text, nullable=False),  # ids.ProcessName
    sa.Column("ae_title", sa.String(16), nullable=False, index=True),
    sa.Column("is_open", sa.Boolean, nullable=False),
    sa.Column("why_not", sa.Text, nullable=False, default=""),
    sa.Column("remedy", sa.Text, nullable=False, default=""),
    sa.Column("executor", sa.String(16), nullable=False, default=""),  # container | process
    sa.Column("job_id", sa.BigInteger, nullable=True),
    sa.Column("last_beat_at", Utc, nullable=False),
    sa.Column("is_confined", sa.Boolean, nullable=False, default=False),  # sees no data of ours
)

switches = sa.Table(  # streams that a person switched off in the web
    "switches",
    metadata,
    sa.Column("ae_title", sa.String(16), primary_key=True),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at", Utc, nullable=False),
)

# -- index.jobs ------------------------------------------------------------------------------

jobs = _table(
    "jobs",
    sa.Column("id", _Id, primary_key=True),
    sa.Column("ae_title", sa.String(16), nullable=False),  # of the stream
    sa.Column("stream_name", sa.Text, nullable=False, default=""),
    sa.Column("stream_version", sa.Text, nullable=False, default=""),
    sa.Column("study_uid", sa.String(64), nullable=False, index=True),
    sa.Column("series_uid", sa.String(64), nullable=False, default=""),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False, default=0),  # 1 high, 0 normal, -1 low
    sa.Column("calling_ae_title", sa.String(16), nullable=False, default=""),  # last reception
    sa.Column("address", sa.Text, nullable=False, default=""),
    sa.Column("input_digest", sa.String(64), nullable=False),
    sa.Column("input_count", sa.Integer, nullable=False),
    sa.Column("result_seed", sa.String(64), nullable=False),  # equal for all attempts
    sa.Column("incomplete", sa.Boolean, nullable=False, default=False),
    sa.Column("supersedes", sa.BigInteger, nullable=True),
    sa.Column("superseded_by", sa.BigInteger, nullable=True),
    sa.Column("run_again_of", sa.BigInteger, nullable=True),
    sa.Column("first_instance_at", Utc, nullable=False),
    sa.Column("last_instance_at", Utc, nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("not_before", Utc, nullable=True),  # a retry waits until then
    sa.Column("wait_reason", sa.Text, nullable=False, default=""),
    sa.Column("started_at", Utc, nullable=True),  # of the current attempt
    sa.Column("ended_at", Utc, nullable=True, index=True),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),  # the fence: only goes up
    sa.Column("tries", sa.Integer, nullable=False, default=0),  # attempts that count
    sa.Column("worker", sa.Text, nullable=False, default=""),
    sa.Column("lease_until", Utc, nullable=True),
    sa.Column("gpu_devices", sa.Text, nullable=False, default=""),  # such as 0,1
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("cancelled_by", sa.Text, nullable=False, default=""),  # also while it runs
    sa.Column("executor", sa.String(16), nullable=False, default=""),  # container | process
    sa.Column("image", sa.Text, nullable=False, default=""),
    sa.Column("image_id", sa.Text, nullable=False, default=""),
    sa.Column("exit_code", sa.Integer, nullable=True),
    sa.Column("outcome", sa.String(16), nullable=False, default=""),  # success | partial | failed
    sa.Column("reason", sa.Text, nullable=False, default=""),  # a sentence
    sa.Column("remedy", sa.Text, nullable=False, default=""),
    sa.Column("message", sa.Text, nullable=False, default=""),  # of the stream's proc.json
    sa.Column("peak_memory_bytes", sa.BigInteger, nullable=True),
    sa.Column("progress_done", sa.Integer, nullable=True),
    sa.Column("progress_of", sa.Integer, nullable=True),
    sa.Column("progress_step", sa.Text, nullable=False, default=""),
    sa.Column("result_count", sa.Integer, nullable=False, default=0),
    sa.Column("is_held", sa.Boolean, nullable=False, default=False),  # a person must release it
    sa.Column("routed_at", Utc, nullable=True),
    sa.Column("routing_note", sa.Text, nullable=False, default=""),
    sa.Index("ix_jobs_state_stream", "state", "ae_title", "priority", "id"),
    sa.Index("ix_jobs_stream_study", "ae_title", "study_uid"),
)

job_inputs = sa.Table(
    "job_inputs",
    metadata,
    sa.Column("job_id", sa.BigInteger, primary_key=True),
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True, index=True),
)

job_steps = _table(
    "job_steps",
    sa.Column("id", _Id, primary_key=True),
    sa.Column("job_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("name", sa.String(32), nullable=False),
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("ended_at", Utc, nullable=True),
    sa.Column("detail", sa.Text, nullable=False, default=""),
)

# -- index.deliveries ------------------------------------------------------------------------

deliveries = _table(
    "deliveries",
    sa.Column("id", _Id, primary_key=True),
    sa.Column("job_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("destination", sa.Text, nullable=False),  # its name in routing.yaml, or $sender:…
    sa.Column("what", sa.String(8), nullable=False),  # output | input
    sa.Column("rule", sa.Text, nullable=False, default=""),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("due_at", Utc, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("router", sa.Text, nullable=False, default=""),  # ids.ProcessName that sends
    sa.Column("lease_until", Utc, nullable=True),
    sa.Column("started_at", Utc, nullable=True),
    sa.Column("ended_at", Utc, nullable=True, index=True),
    sa.Column("message", sa.Text, nullable=False, default=""),  # what happened last, a sentence
    sa.Column("remedy", sa.Text, nullable=False, default=""),
    sa.Index("ix_deliveries_state_due", "state", "due_at"),
    sa.UniqueConstraint("job_id", "destination", "what"),
)

delivery_instances = sa.Table(
    "delivery_instances",
    metadata,
    sa.Column("delivery_id", sa.BigInteger, primary_key=True),
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),  # waiting | sent | warning | failed
    sa.Column("status", sa.Integer, nullable=True),  # of the last C-STORE response
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("at", Utc, nullable=True),
)

# -- index.erasure ---------------------------------------------------------------------------

tombstones = _table(  # that something was erased, without a word that says what
    "tombstones",
    sa.Column("id", _Id, primary_key=True),
    sa.Column("erasure", sa.String(32), nullable=False, index=True),  # one act of a person
    sa.Column("at", Utc, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),  # patient | study | whose
    # HMAC-SHA-256 of the Patient ID, the Study UID or both, with the key of this data folder.
    sa.Column("keyed_hash", sa.String(64), nullable=False, index=True),
)

# -- index.alerts ----------------------------------------------------------------------------

alerts = _table(
    "alerts",
    sa.Column("id", _Id, primary_key=True),
    sa.Column("kind", sa.String(32), nullable=False),  # disk, stream, destination, waiting, …
    sa.Column("subject", sa.Text, nullable=False),  # which of its kind: a stream, a destination
    sa.Column("sentence", sa.Text, nullable=False),
    sa.Column("remedy", sa.Text, nullable=False, default=""),
    sa.Column("began_at", Utc, nullable=False),
    sa.Column("ended_at", Utc, nullable=True, index=True),
    sa.Column("told_at", Utc, nullable=True),  # to the webhook and by e-mail
)
# At most one is open of a subject: partial_indexes.py.

# -- index.samples ---------------------------------------------------------------------------

samples = sa.Table(  # the node's own numbers of the last week
    "samples",
    metadata,
    sa.Column("name", sa.String(48), primary_key=True),
    sa.Column("at", Utc, primary_key=True, index=True),
    sa.Column("value", sa.Float, nullable=False),
)

# -- index.events ----------------------------------------------------------------------------

events = _table(
    "events",
    sa.Column("id", _Id, primary_key=True),
    sa.Column("at", Utc, nullable=False, index=True),
    sa.Column("kind", sa.String(48), nullable=False, index=True),
    sa.Column("who", sa.Text, nullable=False, default=""),
    sa.Column("study_uid", sa.String(64), nullable=False, default="", index=True),
    sa.Column("job_id", sa.BigInteger, nullable=True, index=True),
    sa.Column("sentence", sa.Text, nullable=False),
    sa.Column("facts", sa.Text, nullable=False, default="{}"),  # JSON object
)

# -- index.beats -----------------------------------------------------------------------------

data_folder = sa.Table(  # the one that this index belongs to: a single row
    "data_folder",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),  # as it stands in index.id there
    sa.Column("path", sa.Text, nullable=False),
)

beats = sa.Table(
    "beats",
    metadata,
    sa.Column("process", sa.Text, primary_key=True),  # ids.ProcessName
    sa.Column("name", sa.String(32), nullable=False),  # receiver, dispatcher, …
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("says", sa.Text, nullable=False, default=""),  # a problem, or nothing
)
