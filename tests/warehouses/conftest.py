"""The warehouses that the tests run against, told to dlt the way a user would: by the environment."""

import functools
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dlt
import pytest
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.pipeline import PipelineContext

from paystack_source import paystack_source
from paystack_source.sandbox import Sandbox
from tests.copies import UNTIL
from tests.warehouses.servers import S3, Postgres, postgres_server, s3_server

DATABASES = ["duckdb", "postgres"]
LAKES = ["parquet", "delta", "iceberg"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@dataclass
class Warehouse:
    """A place for a copy: a name for `--destination`, and the environment that configures it."""

    kind: str
    destination: str
    environment: dict[str, str] = field(repr=False)

    def pipeline(self, machine: Path, name: str = "paystack_customers") -> dlt.Pipeline:
        """The pipeline as a machine with the working folder `machine` sees it."""
        return dlt.pipeline(
            name, destination=self.destination, dataset_name="paystack", pipelines_dir=str(machine)
        )


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test has a working folder and configuration of its own, and leaves nothing in dlt's globals."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "ERROR")
    Container()[PluggableRunContext].reload(str(tmp_path))
    yield tmp_path / "dlt"
    Container()[PluggableRunContext].reload(".")  # the working folder, whatever it is
    Container()[PipelineContext].deactivate()


@pytest.fixture
def warehouse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[str], Warehouse]:
    """`warehouse("delta-s3")`: a new and empty one, and the environment set for it."""

    def make(kind: str) -> Warehouse:
        made = _warehouse(kind, tmp_path, request)
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        return made

    return make


@pytest.fixture
def copied_database(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of one's own, which a machine that is gone filled with a copy of five customers."""
    own = f"t{uuid.uuid4().hex[:12]}"
    postgres.execute(f"create database {own} template {_copied(postgres)}")
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", postgres.url(own))
    return own


@pytest.fixture
def copied(
    copied_database: str, sandbox: Callable[..., Sandbox], own_machine: Path
) -> tuple[dlt.Pipeline, Sandbox]:
    """The pipeline of this machine for that copy, and the sandbox that it was made of."""
    return Warehouse("postgres", "postgres", {}).pipeline(own_machine), sandbox(5, until=UNTIL)


@functools.cache
def _copied(server: Postgres) -> str:
    server.execute("create database copied")
    place = dlt.destinations.postgres(server.url("copied"))
    with tempfile.TemporaryDirectory() as folder, Sandbox(5, until=UNTIL, limit=0) as api:
        pipeline = dlt.pipeline(
            "paystack_customers", destination=place, dataset_name="paystack", pipelines_dir=folder
        )
        pipeline.run(paystack_source(api.secret_key, base_url=api.url, quota=0))
    return "copied"


def _warehouse(kind: str, folder: Path, request: pytest.FixtureRequest) -> Warehouse:
    own = f"t{uuid.uuid4().hex[:12]}"
    if kind == "duckdb":
        return Warehouse(kind, "duckdb", {"DESTINATION__DUCKDB__CREDENTIALS": str(folder / "copy.duckdb")})
    if kind == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        server.execute(f"create database {own}")
        return Warehouse(kind, "postgres", {"DESTINATION__POSTGRES__CREDENTIALS": server.url(own)})
    table_format, _, where = kind.partition("-")
    environment = {"SOURCES__PAYSTACK__TABLE_FORMAT": table_format}
    if where == "s3":
        store: S3 = request.getfixturevalue("s3")
        store.files().mkdir(own)
        environment["DESTINATION__FILESYSTEM__BUCKET_URL"] = f"s3://{own}"
        for name, value in store.credentials().items():
            environment[f"DESTINATION__FILESYSTEM__CREDENTIALS__{name.upper()}"] = value
    else:
        environment["DESTINATION__FILESYSTEM__BUCKET_URL"] = (folder / "lake").as_uri()
    return Warehouse(kind, "filesystem", environment)
