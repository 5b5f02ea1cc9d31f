"""Who changes customers in bulk, and how each peer is started."""

import sys
from dataclasses import dataclass
from pathlib import Path

import environments
from extractors import product_python, product_settings
from harness import ROOT, clean_environment, measure

PEERS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True)
class Library:
    """A script over somebody's client that reads changes.csv."""

    name: str
    label: str
    environment: str
    script: str
    arguments: tuple[str, ...] = ()

    def run(self, server, out, *, quick, timeout, **_):
        python = sys.executable if quick else environments.python_of(self.environment)
        command = [python, PEERS / self.script, "--url", server.url, "--key", server.key, "--out", out]
        command += ["--file", out / "changes.csv", *self.arguments]
        return measure(command, cwd=out, env=clean_environment(), timeout=timeout, server=server)


@dataclass(frozen=True)
class Bulk:
    """`pipelines/bulk.py run` of the checkout ROOT: plan, journal, apply, results."""

    name: str
    label: str
    script: str = "pipelines/bulk.py"
    root: Path = ROOT

    def run(self, server, out, *, quota, timeout, quick):
        command = [
            product_python(quick=quick),
            self.root / self.script,
            "run",
            "risk-action",
            out / "changes.csv",
            "--yes",
            "--json",
        ]
        env = clean_environment(**product_settings(server, out, quota, self.root))
        return measure(command, cwd=out, env=env, timeout=timeout, server=server)


PRODUCT = Bulk("product", "paystack-source")
OTHERS = (
    Library("threads", "requests, 32 threads", "naive", "bulk_threads.py"),
    Library("pypaystack2_sync", "pypaystack2, one by one", "pypaystack2", "bulk_pypaystack2.py"),
    Library(
        "pypaystack2_async",
        "pypaystack2 async, 32 at once",
        "pypaystack2",
        "bulk_pypaystack2.py",
        ("--gathered",),
    ),
)
JOURNALS = (
    PRODUCT,
    Bulk("unsynced", "journal that never waits for the disk", "benchmarks/peers/bulk_unsynced.py"),
)
