"""Fixtures for all tests: databases of both kinds, and a whole node."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from appliance.index.database import Database
from appliance.settings import Index, Settings
from appliance.worker.container import Docker
from tests.kit import engine, indexes, postgres, require, scu

scu.wait_before_each_message()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A throw-away PostgreSQL server; the URL of its first database."""
    with postgres.cluster() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a migrated PostgreSQL database, the template of the tests' own."""
    name = "migrated"
    engine = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    url = postgres_server.rsplit("/", 1)[0] + "/" + name
    indexes.migrated(Settings(home=tmp_path_factory.mktemp(name), index=Index(url=url))).close()
    return name


@pytest.fixture
def postgres_url(postgres_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new PostgreSQL database: empty, or migrated for a test that asks for `db`."""
    name = f"t{uuid.uuid4().hex}"
    is_migrated = "db" in request.fixturenames
    template = request.getfixturevalue("migrated_postgres") if is_migrated else "template1"
    engine = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield postgres_server.rsplit("/", 1)[0] + "/" + name
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def index_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of an index that is not made yet, on each engine in turn."""
    if request.param == "sqlite":
        return Settings(home=tmp_path)
    return Settings(home=tmp_path, index=Index(url=request.getfixturevalue("postgres_url")))


@pytest.fixture
def db(index_settings: Settings) -> Iterator[Database]:
    """A migrated, empty index, on each engine in turn."""
    db = indexes.migrated(index_settings)
    yield db
    db.close()


@pytest.fixture
def real_data() -> Path:
    """The folder of real DICOM data."""
    return require.real_data()


@pytest.fixture(scope="session")
def shipped_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """An engine that answers and has the images of the shipped streams."""
    with engine.running() as docker:
        engine.build_shipped(docker, tmp_path_factory.mktemp("images") / "node")
        yield docker
