"""The connection to the index, on SQLite or PostgreSQL alike.

`open_index` is what every process calls: it refuses another schema version.
Reads use `db.read()`, writes `db.write()`: one transaction each, which on SQLite
takes the write lock at its start, so that a compare-and-set never has to upgrade.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from appliance.errors import IndexUnavailable, NoIndex
from appliance.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql import Insert as _PostgresqlInsert
    from sqlalchemy.dialects.sqlite import Insert as _SqliteInsert

# For signatures of those who pass one on: only the index speaks SQL.
Connection = sa.Connection

# InternalError is a PostgreSQL that may only be read: a standby, just after a failover.
_AWAY = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.InternalError,
    sa.exc.TimeoutError,
)
# secure_delete: what is erased must not stand in free pages of the file and its backups.
_PRAGMAS = (
    ("journal_mode", "wal"),
    ("synchronous", 2),
    ("foreign_keys", 1),
    ("secure_delete", 1),
)
_STEPS_AT_ONCE = 200  # of SQLite's virtual machine, about a tenth of a millisecond

_LOCK_ALL = sa.text(
    "SELECT count(pg_advisory_xact_lock(hashtext(one))) FROM "
    "(SELECT one FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS given(one, at) "
    "ORDER BY at) AS ordered"
)


class Database:
    """An engine, and the two kinds of transaction that this project uses."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    @property
    def is_sqlite(self) -> bool:
        """Say which of the two engines this is."""
        return self.engine.dialect.name == "sqlite"

    @property
    def file(self) -> Path | None:
        """Name SQLite's file; None with PostgreSQL."""
        found = self.engine.url.database
        return Path(found) if self.is_sqlite and found else None

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Lend a connection that sees one consistent state; IndexUnavailable when it cannot."""
        with plain_errors(), self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Lend one transaction: committed and durable at the end, or nothing of it."""
        with plain_errors(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.execution_options(brookbox_write=True)
            with connection.begin():
                yield connection

    def lock(self, connection: sa.Connection, name: str) -> None:
        """Serialise transactions that must count rows; held until the transaction ends.

        SQLite's write transactions are serial already.
        """
        if not self.is_sqlite:
            connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name}
            )

    def lock_all(self, connection: sa.Connection, names: Sequence[str]) -> None:
        """Do as `lock` does for many names at once, in the order in which they are given."""
        if not self.is_sqlite and names:
            connection.execute(_LOCK_ALL, {"names": list(names)})

    def close(self) -> None:
        """Give every connection back."""
        self.engine.dispose()


def connect(settings: Settings) -> Database:
    """Connect without looking at the schema's version; `open_index` looks."""
    url = index_url(settings)
    if url.get_backend_name() == "sqlite":
        return Database(_sqlite(url, settings.index.busy_seconds))
    return Database(_postgresql(url, settings.index.busy_seconds))


def open_index(settings: Settings) -> Database:
    """Connect for work; WrongSchema when `brookbox up` must migrate first, NoIndex when it must
    make one, WrongFolder when the index is another node's.

    A question makes no index: an empty one would stand in the way of a restore.
    """
    from appliance.index import belonging
    from appliance.index.migrate import check_version

    if not settings.index.url and not sqlite_file(settings).exists():
        raise NoIndex(
            f"there is no index in {settings.data_root}",
            remedy="start the node once: brookbox up; or name its folder with --home",
        )
    db = connect(settings)
    check_version(db)
    belonging.check(db, settings)
    return db


def index_url(settings: Settings) -> sa.URL:
    """Give the index's URL, its password read from its file."""
    if not settings.index.url:
        return sa.URL.create("sqlite", database=str(sqlite_file(settings)))
    try:
        url = sa.make_url(settings.index.url)
    except sa.exc.ArgumentError as error:
        raise IndexUnavailable(
            f"index.url is not a database URL: {error}",
            remedy="write it as postgresql+psycopg://user@host/database",
        ) from error
    if settings.index.password_file:
        url = url.set(password=_password(settings.home / settings.index.password_file))
    return url


def _password(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise IndexUnavailable(
            f"index.password_file cannot be read: {error}",
            remedy=f"write the password into {file}, for the node's user to read",
        ) from error


def sqlite_file(settings: Settings) -> Path:
    """Name SQLite's file; it stands there only when no URL is set."""
    return settings.data_root / "index.sqlite3"


def _sqlite(url: sa.URL, busy_seconds: float) -> sa.Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made here, so that it is the node's alone; SQLite gives its log the same mode.
        with contextlib.suppress(OSError):  # SQLite says it better
            os.close(os.open(url.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = sa.create_engine(
        url,
        hide_parameters=True,  # an error's words go into the log, patients' names do not
        connect_args={"timeout": busy_seconds, "check_same_thread": False},
        pool_size=5,
        max_overflow=50,
    )
    sa.event.listen(engine, "connect", _set_pragmas)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _postgresql(url: sa.URL, busy_seconds: float) -> sa.Engine:
    try:
        return sa.create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=20,
            connect_args={
                "connect_timeout": 5,
                # A server whose machine or network is gone says nothing: it is given up.
                "keepalives_idle": 30,
                "keepalives_interval": 10,
                "keepalives_count": 3,
                "tcp_user_timeout": 30_000,
                "options": "-c synchronous_commit=on -c timezone=UTC "
                f"-c lock_timeout={int(busy_seconds * 1000)}",
            },
        )
    except sa.exc.NoSuchModuleError as error:
        raise IndexUnavailable(
            f"index.url names no database that is known here: {url.drivername}",
            remedy="write it as postgresql+psycopg://user@host/database",
        ) from error
    except ModuleNotFoundError as error:
        raise IndexUnavailable(
            f"index.url needs the Python package {error.name}, which is not installed",
            remedy="pip install 'psycopg[binary]', and write postgresql+psycopg://user@host/database",
        ) from error


def _set_pragmas(connection: sqlite3.Connection, record: Any) -> None:
    # sqlite3 must not open transactions by itself: `_begin` does.
    connection.isolation_level = None
    # Many kernels let who computes go on until it calls them or the next tick, 4 ms later:
    # a statement gives way now and then to a thread that has an answer to write.
    connection.set_progress_handler(os.sched_yield, _STEPS_AT_ONCE)
    for name, wanted in _PRAGMAS:
        connection.execute(f"PRAGMA {name}={wanted}")
        found = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if found != wanted:
            raise IndexUnavailable(
                f"SQLite keeps {name} at {found} where the index needs {wanted}",
                remedy="put data_root on a local disk; network file systems cannot hold SQLite",
            )


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("brookbox_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def insert_new(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> bool:
    """Insert a row unless one with such a key is there; True when it was inserted."""
    return insert_new_row(connection, table, values) is not None


def insert_new_row(
    connection: sa.Connection, table: sa.Table, values: dict[str, Any]
) -> sa.Row[Any] | None:
    """Do as `insert_new` does, and give the primary key of the new row."""
    # Not by rowcount: with a generated id SQLAlchemy does not keep it on PostgreSQL.
    statement = _insert_new(connection.dialect.name, table)
    return connection.execute(statement, values).first()


# To build a statement takes longer than to run it: each is made once.
@functools.cache
def _insert_new(engine: str, table: sa.Table) -> sa.Insert:
    statement = _insert(engine, table).on_conflict_do_nothing()
    return statement.returning(*table.primary_key)


def _insert(engine: str, table: sa.Table) -> _SqliteInsert | _PostgresqlInsert:
    # Imported here: that of the engine in use is there already, the other one is 30 ms.
    if engine == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Turn the drivers' operational errors into ours; mistakes of ours stay what they are."""
    try:
        yield
    except _AWAY as error:
        cause = getattr(error, "orig", None) or error
        raise IndexUnavailable(
            f"the index cannot be used just now: {str(cause).strip()}",
            remedy="brookbox doctor",
        ) from error
    except sa.exc.DatabaseError as error:
        # SQLite's word for a file that is no database, or a damaged one, is the bare class.
        if type(error) is not sa.exc.DatabaseError:
            raise
        raise IndexUnavailable(
            f"the index is damaged: {error.orig}",
            remedy="brookbox restore FOLDER of a backup, or brookbox index rebuild",
        ) from error
