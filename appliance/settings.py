"""Every setting of the node, declared once.

A setting is one line of a frozen dataclass: type, default, unit in the name,
help, limits, and whether it changes without a restart (`live`).  From it come
the defaults, the checks, `config/brookbox.yaml`, the overrides
(`BROOKBOX_RECEIVER_PORT=104`) and the help pages; `appliance.settings_file`
reads them.  Settings are read once per process and passed down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """Declare one setting; `live` ones change on `brookbox config reload`."""
    facts = {"help": help, "low": low, "high": high, "choices": choices, "live": live}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=facts)
    return field(default=default, metadata=facts)


@dataclass(frozen=True, slots=True)
class Node:
    """Who the node is and where it keeps things."""

    ae_title: str = setting(
        "BROOKBOX", "The node's own AE title: answers echo, stores without processing"
    )
    data_root: str = setting(
        "data", "Folder for everything the node keeps; relative to where the node is started"
    )
    streams_folder: str = setting("streams", "Folder of streams: drop one in to add it")
    log_level: str = setting(
        "info", "How much is logged", choices=("debug", "info", "warning", "error"), live=True
    )


@dataclass(frozen=True, slots=True)
class Receiver:
    """The Storage and Verification SCP."""

    address: str = setting("0.0.0.0", "Address to listen on; 0.0.0.0 is all of them")
    port: int = setting(11113, "TCP port for DICOM", low=1, high=65535)
    processes: int = setting(2, "Processes that receive side by side", low=1, high=64)
    max_associations: int = setting(
        50, "Associations open at once; more are refused as transient (2,3,2)", low=1, live=True
    )
    allow_calling: tuple[str, ...] = setting(
        (), "Calling AE titles that may connect; none listed means all", live=True
    )
    allow_addresses: tuple[str, ...] = setting(
        (), "Networks that may connect, such as 10.1.0.0/16; none listed means all", live=True
    )
    behind_nat: bool = setting(
        False,
        "All senders come from one address (NAT of a virtual machine, a proxy): "
        "rules and limits by address are off",
        live=True,
    )
    refusals_a_minute: int = setting(
        20,
        "Refusals for good of one address in a minute; further ones are answered after a pause; "
        "0 is no limit",
        low=0,
        live=True,
    )
    max_pdu_bytes: int = setting(131072, "Longest PDU that is accepted; 0 is unlimited", low=0)
    max_instance_mb: int = setting(
        4096, "Largest instance that is accepted, in MB", low=1, live=True
    )
    on_conflict: str = setting(
        "keep-first",
        "Other content under a known SOP Instance UID: keep-first keeps what is there, "
        "replace takes the newer one, refuse answers 0x0124",
        choices=("keep-first", "replace", "refuse"),
        live=True,
    )
    warn_of_marks: bool = setting(
        False,
        "What is kept though it is not as the standard wants it is answered 0xB007, not 0x0000",
        live=True,
    )
    coerce: bool = setting(
        False,
        "A missing SOP Instance, Series or Study UID is made, and answered 0xB000, not 0xA900",
        live=True,
    )
    durability: str = setting(
        "committed",
        "committed: an image is on the disk before it is answered; none: in the kernel's memory, "
        "so that a power cut loses the last seconds of what was answered, or leaves it empty",
        choices=("committed", "none"),
        live=True,
    )
    reserve_gb: float = setting(
        5.0,
        "Space always left free (1 GB is 10^9 bytes); below it associations are refused (2,3,1)",
        low=0,
        live=True,
    )
    reserve_percent: float = setting(
        5.0, "The same as a share of the volume; the larger one counts", low=0, high=90, live=True
    )
    association_timeout_seconds: float = setting(
        30.0, "Patience for the association request and for release", low=1
    )
    network_timeout_seconds: float = setting(
        120.0, "Silence after which a connection is closed as lost", low=1
    )
    header_timeout_seconds: float = setting(
        10.0, "Patience for the first bytes of a connection, and for a TLS handshake", low=0.1
    )
    pdu_timeout_seconds: float = setting(
        30.0, "Patience for the rest of a PDU; the time over which its pace is judged", low=1
    )
    least_bytes_a_second: int = setting(
        1000, "An instance that comes more slowly is cut off; 0 is no limit", low=0, live=True
    )
    max_connections_per_address: int = setting(
        16, "Connections of one address at once; 0 is no limit", low=0, live=True
    )
    tls_port: int = setting(0, "TCP port for DICOM over TLS; 0 is none", low=0, high=65535)
    tls_certificate_file: str = setting("", "PEM file of the node's certificate and its chain")
    tls_key_file: str = setting("", "PEM file of its key, without a password")
    tls_ca_file: str = setting(
        "", "PEM file of CAs: peers must show a certificate that one of them signed"
    )
    stuck_seconds: float = setting(
        120.0,
        "A receiving process that accepts nothing, or whose step for a peer takes longer, is "
        "started again",
        low=5,
        live=True,
    )


@dataclass(frozen=True, slots=True)
class Completeness:
    """When a study has arrived whole."""

    quiet_seconds: float = setting(
        30.0, "Silence after a release that ends a study; info.json may name it", low=0.1, live=True
    )
    quiet_after_abort_seconds: float = setting(
        300.0, "Silence that ends a study whose association was aborted or lost", low=0.1, live=True
    )
    idle_seconds: float = setting(
        30.0,
        "An open association that is silent for so long no longer holds a study",
        low=0.1,
        live=True,
    )
    longest_wait_minutes: float = setting(
        90.0, "A study that trickles is closed after so long", low=0.1, live=True
    )
    learn: bool = setting(
        True, "Learn the silence of each calling AE title (5 to 120 s)", live=True
    )
    senders: dict[str, float] = setting(
        {},
        "Fixed silence in seconds for a calling AE title, such as {CT1: 10}",
        low=0.1,
        live=True,
    )


@dataclass(frozen=True, slots=True)
class Index:
    """The database that knows what is where and what state it is in."""

    url: str = setting(
        "",
        "SQLAlchemy URL, such as postgresql+psycopg://brookbox@db/brookbox; "
        "empty is SQLite in data_root",
    )
    password_file: str = setting("", "File that holds the password of the URL")
    busy_seconds: float = setting(10.0, "Patience when the index is locked", low=0.1)


@dataclass(frozen=True, slots=True)
class Queue:
    """gearmand, the bell between the index and the workers."""

    servers: tuple[str, ...] = setting(("127.0.0.1:4730",), "gearmand servers as host:port")
    start_gearmand: bool = setting(True, "Start gearmand with the node, on the first server's port")
    ring_again_seconds: float = setting(30.0, "Queued jobs are rung again so often", low=1)


@dataclass(frozen=True, slots=True)
class Jobs:
    """What becomes of a study that arrived for a stream."""

    max_waiting: int = setting(
        500,
        "Studies that may wait for one stream; more are refused as transient (2,3,1)",
        low=1,
        live=True,
    )
    max_attempts: int = setting(3, "Attempts before a job fails for good", low=1, live=True)
    retry_seconds: float = setting(
        30.0, "Pause before a job whose machine failed is tried again", low=0, live=True
    )
    on_resend: str = setting(
        "show",
        "The same study again after success: show says so, run makes a new job",
        choices=("show", "run"),
        live=True,
    )
    hold_incomplete: bool = setting(
        True,
        "Results of a possibly incomplete study wait for a person before they are sent",
        live=True,
    )


@dataclass(frozen=True, slots=True)
class Worker:
    """How streams are run, and their limits unless info.json says otherwise."""

    docker: str = setting(
        "auto",
        "auto uses Docker where it answers; never runs trusted streams as processes",
        choices=("auto", "never"),
    )
    docker_url: str = setting("", "Docker's address; empty is DOCKER_HOST or the local socket")
    lease_seconds: float = setting(
        60.0, "A job whose worker is silent for so long goes to another", low=3
    )
    memory_gb: float = setting(4.0, "Memory of a job; 1 GB is 2^30 bytes", low=0.05, live=True)
    cpus: float = setting(1.0, "CPUs of a job", low=0.1, live=True)
    pids: int = setting(1024, "Processes and threads of a job", low=1, live=True)
    shm_mb: int = setting(1024, "Private /dev/shm of a job", low=1, live=True)
    tmp_mb: int = setting(1024, "Private /tmp of a job; its HOME is as large", low=1, live=True)
    timeout_minutes: float = setting(60.0, "Longest run of a job", low=0.001, live=True)
    output_gb: float = setting(
        10.0, "Most that a job may leave in /output; 1 GB is 10^9 bytes", low=0.001, live=True
    )
    output_files: int = setting(100_000, "Most files a job may leave in /output", low=1, live=True)
    log_mb: float = setting(50.0, "Longest log; over it the middle is left out", low=0.1, live=True)


@dataclass(frozen=True, slots=True)
class Router:
    """Sending results on."""

    routing_file: str = setting("", "Routing rules; empty is routing.yaml beside the settings file")
    first_retry_seconds: float = setting(30.0, "Pause after the first failure", low=0.1, live=True)
    longest_retry_minutes: float = setting(60.0, "The pause doubles up to this", low=0.1, live=True)
    give_up_days: float = setting(7.0, "A delivery is given up after so long", low=0.001, live=True)
    association_timeout_seconds: float = setting(
        30.0, "Patience for a destination to accept", low=0.1, live=True
    )
    answer_timeout_seconds: float = setting(
        120.0, "Patience for the answer to one instance", low=0.1, live=True
    )


@dataclass(frozen=True, slots=True)
class Web:
    """The pages and the API."""

    address: str = setting("127.0.0.1", "Address of the pages; beyond loopback asks for a key")
    port: int = setting(2813, "TCP port of the pages", low=1, high=65535)
    threads: int = setting(32, "Requests answered side by side", low=4, high=256)
    ask_key: bool = setting(
        False, "Ask for the access key on loopback too: where others log in to this machine"
    )
    access_key_file: str = setting("", "File of the access key; empty is data_root/access.key")


@dataclass(frozen=True, slots=True)
class Housekeeper:
    """What is removed, and when."""

    inputs_days: float = setting(
        7.0, "Received studies are kept so long after their last job ended", low=0, live=True
    )
    results_days: float = setting(30.0, "Results are kept so long", low=0, live=True)
    logs_days: float = setting(
        90.0, "Job folders and their logs are kept so long", low=0, live=True
    )
    quarantine_days: float = setting(
        30.0,
        "Files in quarantine are kept so long; those held for a person until one decides",
        low=0,
        live=True,
    )
    high_percent: float = setting(
        85.0, "Above this use of the volume the oldest go early", low=1, high=99, live=True
    )
    low_percent: float = setting(75.0, "Down to this use of the volume", low=1, high=99, live=True)
    sweep_seconds: float = setting(60.0, "Pause between two sweeps", low=0.5, live=True)
    backup_hour_utc: int = setting(2, "Hour of the nightly backup, UTC", low=0, high=23, live=True)
    backups_kept: int = setting(7, "Nightly backups kept", low=1, live=True)
    beat_seconds: float = setting(60.0, "Pause between two heartbeats", low=1, live=True)


@dataclass(frozen=True, slots=True)
class Alerts:
    """When somebody is told that something is wrong, and how."""

    failures_in_a_row: int = setting(
        3, "Failures in a row of one stream that raise an alert", low=1, live=True
    )
    destination_minutes: float = setting(
        30.0, "A destination that takes nothing for so long raises one", low=0.01, live=True
    )
    waiting_minutes: float = setting(
        120.0, "A study that waits for its stream for so long raises one", low=0.01, live=True
    )
    restarts_in_an_hour: int = setting(
        3, "Restarts of one process within an hour that raise one", low=1, live=True
    )
    clock: bool = setting(
        True, "Whether a clock that the kernel calls unsynchronised raises one", live=True
    )
    certificates: tuple[str, ...] = setting(
        (), "PEM files of certificates to watch, such as that of a proxy in front", live=True
    )
    certificate_days: float = setting(
        30.0, "A certificate that expires within so many days raises one", low=0, live=True
    )
    webhook_url: str = setting(
        "", "Where alerts are posted to, as JSON without patients' data", live=True
    )
    webhook_token_file: str = setting(
        "", "File of a token that is sent along as Authorization: Bearer", live=True
    )
    mail_host: str = setting("", "Mail server that takes alerts; empty is none", live=True)
    mail_port: int = setting(25, "Its TCP port", low=1, high=65535, live=True)
    mail_security: str = setting(
        "starttls",
        "How the way to it is kept: starttls, tls from the start, or none",
        choices=("starttls", "tls", "none"),
        live=True,
    )
    mail_from: str = setting("", "Sender of the mails", live=True)
    mail_to: tuple[str, ...] = setting((), "Who gets them", live=True)
    mail_user: str = setting("", "Name to log in with; empty is without a login", live=True)
    mail_password_file: str = setting("", "File of its password", live=True)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, one section each; `source` is the file, if there was one."""

    node: Node = field(default_factory=Node)
    receiver: Receiver = field(default_factory=Receiver)
    completeness: Completeness = field(default_factory=Completeness)
    index: Index = field(default_factory=Index)
    queue: Queue = field(default_factory=Queue)
    jobs: Jobs = field(default_factory=Jobs)
    worker: Worker = field(default_factory=Worker)
    router: Router = field(default_factory=Router)
    web: Web = field(default_factory=Web)
    housekeeper: Housekeeper = field(default_factory=Housekeeper)
    alerts: Alerts = field(default_factory=Alerts)
    source: Path | None = None
    home: Path = field(default_factory=Path.cwd)

    @property
    def data_root(self) -> Path:
        """The folder for everything the node keeps."""
        return self.home / self.node.data_root

    @property
    def streams_folder(self) -> Path:
        """The folder of drop-in streams."""
        return self.home / self.node.streams_folder

    @property
    def config_folder(self) -> Path:
        """Where the settings file stands, or would stand."""
        return self.source.parent if self.source else self.home / "config"

    @property
    def routing_file(self) -> Path:
        """The file of routing rules."""
        if self.router.routing_file:
            return self.home / self.router.routing_file
        return self.config_folder / "routing.yaml"

    @property
    def access_key_file(self) -> Path:
        """The file of the web's access key."""
        if self.web.access_key_file:
            return self.home / self.web.access_key_file
        return self.data_root / "access.key"
