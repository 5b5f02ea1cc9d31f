"""Who copies customers: how each peer is started, where it leaves its rows, the check that all are there."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb
import environments
from harness import ROOT, clean_environment, measure

PEERS = Path(__file__).resolve().parent / "peers"
FIELDS = (
    "id", "customer_code", "email", "first_name", "last_name", "phone", "metadata", "domain", "integration",
    "risk_action", "created_at", "updated_at",
)  # fmt: skip


@dataclass(frozen=True)
class Extractor:
    """A peer: its label in the report, its script and environment, its DuckDB file and table."""

    name: str
    label: str
    environment: str
    script: str
    database: str
    table: str
    arguments: tuple[str, ...] = ()

    def command(self, server, out, *, quick):
        # The quick version builds no environments: what these peers import is in the development environment.
        python = sys.executable if quick else environments.python_of(self.environment)
        return [
            python,
            PEERS / self.script,
            "--url",
            server.url,
            "--key",
            server.key,
            "--out",
            out,
            *self.arguments,
        ]

    def settings(self, *_):
        return {}


@dataclass(frozen=True)
class Product(Extractor):
    """`pipelines/customers.py`, run as its users run it, from the checkout ROOT."""

    root: Path = ROOT

    def command(self, _server, _out, *, quick):
        return [product_python(quick=quick), self.root / "pipelines" / self.script, "--json", *self.arguments]

    def settings(self, server, out, quota):
        return product_settings(server, out, quota, self.root)


def product_python(*, quick):
    return sys.executable if quick else environments.python_of(environments.PRODUCT)


def product_settings(server, out, quota, root=ROOT):
    """The environment variables of the product in ROOT; its settings file comes along as in a checkout."""
    config = root / ".dlt" / "config.toml"
    if config.exists():
        (out / ".dlt").mkdir(exist_ok=True)
        shutil.copy(config, out / ".dlt" / "config.toml")
    return {
        "SOURCES__PAYSTACK__SECRET_KEY": server.key,
        "SOURCES__PAYSTACK__BASE_URL": server.url,
        "SOURCES__PAYSTACK__QUOTA": str(quota),
        "DLT_DATA_DIR": str(out / "dlt"),
        "PYTHONPATH": str(root),
    }


PRODUCT = Product(
    "product", "paystack-source", "", "customers.py", "paystack_customers.duckdb", "paystack.customers"
)
FLOOR = Extractor("floor", "floor (no dlt)", "floor", "floor.py", "floor.duckdb", "customers")
FLOOR_URLLIB3 = Extractor(
    "floor_urllib3", "floor over urllib3 (no dlt)", "floor", "floor.py", "floor.duckdb", "customers",
    ("--urllib3", "--wires", "4"),
)  # fmt: skip
FLOOR_KEPT = Extractor(
    "floor_kept", "floor over urllib3 and dlt", "product", "floor.py", "floor.duckdb", "paystack.customers",
    ("--urllib3", "--wires", "4", "--dlt"),
)  # fmt: skip
NAIVE = Extractor("naive", "requests + pandas", "naive", "naive.py", "naive.duckdb", "customers")
REST_BEST = Extractor(
    "rest_api_best", "dlt rest_api, at its best", "rest_api", "rest_api.py", "rest_api.duckdb",
    "paystack.customers",
    ("--best",),
)  # fmt: skip
REST = Extractor(
    "rest_api",
    "dlt rest_api, as it comes",
    "rest_api",
    "rest_api.py",
    "rest_api.duckdb",
    "paystack.customers",
)
PYPAYSTACK2 = Extractor(
    "pypaystack2",
    "pypaystack2 + pandas",
    "pypaystack2",
    "pypaystack2_loop.py",
    "pypaystack2.duckdb",
    "customers",
)
AIRBYTE = Extractor(
    "airbyte",
    "PyAirbyte + Airbyte's connector",
    "airbyte",
    "airbyte_connector.py",
    "airbyte.duckdb",
    "paystack.customers",
)


def extract(peer, server, out, *, timeout, quota=0, quick=False, arguments=()):
    """One measured run of PEER into the folder OUT: the measurement and what the check of its table found."""
    env = clean_environment(**peer.settings(server, out, quota))
    command = [*peer.command(server, out, quick=quick), *arguments]
    run = measure(command, cwd=out, env=env, timeout=timeout, server=server)
    held = check(out / peer.database, peer.table) if run.fine else {}
    return run, held


def check(database, table):
    """Rows, distinct customers and missing fields of a table, counted by us and not by the peer."""
    with duckdb.connect(database, read_only=True) as base:
        there = {row[0].lower() for row in base.execute(f"describe {table}").fetchall()}
        rows, distinct = base.execute(f"select count(*), count(distinct id) from {table}").fetchone()
    lacking = [field for field in FIELDS if not there & {field, field.replace("_at", "at")}]
    return {"rows": rows, "distinct": distinct, "lacking": lacking}
