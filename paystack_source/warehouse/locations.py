"""Where a copy is: the same for every command that is started in the same folder.

dlt remembers the folder in which a pipeline first ran, and keeps using a DuckDB file there. It keeps one state for a
pipeline name in one working folder. So two projects on one machine would share a file and the memory of what is
proven. Therefore the DuckDB file is always given with its full path, and the state of another location is dropped
(`dlt_quirks.drop_foreign_state`); dlt restores it from the destination, where it is kept with the rows.

The copy of a sandbox shares none of these with a real one, so neither has to be removed for the other:

    what                        real                        with --sandbox
    --------------------------  --------------------------  ----------------------------
    DuckDB file                 paystack_customers.duckdb,  paystack_sandbox.duckdb,
                                or as dlt is told           whatever dlt is told
    dataset, DuckDB             --dataset                   --dataset
    dataset, other destination  --dataset                   --dataset and `_sandbox`
    dlt's pipelines             paystack_customers, …       the same and `_sandbox`
    results of bulk runs        paystack_results            the same and `_sandbox`

Each dataset has pipelines of its own, `paystack_customers_ng` for the dataset `paystack_ng`: dlt's working folder of a
pipeline is for one run at a time, and several accounts are copied at once.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from paystack_source.errors import ConfigError
from paystack_source.settings import DATASET, SANDBOX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlt.pipeline.pipeline import Pipeline

DUCKDB = ("duckdb", f"duckdb{SANDBOX}")
"""The destinations that are DuckDB files of ours: the real copy, and the copy of the sandbox."""

DATABASE = "paystack_customers"
SANDBOX_DATABASE = "paystack_sandbox.duckdb"


def destination_is(pipeline: Pipeline, *kinds: str) -> bool:
    """Whether the pipeline's destination is of one of these types, as dlt calls them."""
    return pipeline.destination.destination_type.rpartition(".")[2] in kinds


def is_lake(pipeline: Pipeline) -> bool:
    """Whether the copy is kept in files rather than in a database."""
    return destination_is(pipeline, "filesystem")


def sandbox_location(destination: str, dataset: str) -> tuple[str, str]:
    """The destination and dataset of the sandbox's copy that belong to these of a real copy."""
    if destination in DUCKDB:
        return DUCKDB[1], dataset
    return destination, dataset + SANDBOX


def pipeline_name(name: str, destination: str, dataset: str) -> str:
    """Dlt's name of the pipeline `name` for this dataset: its working folder has the loads and state of one dataset."""
    own = dataset.removesuffix(SANDBOX)
    # `_ng` for `paystack_ng`, nothing for `paystack`, `_kobo` for `kobo`
    ending = "" if own == DATASET else f"_{own.removeprefix(f'{DATASET}_')}"
    is_sandbox = destination == DUCKDB[1] or own != dataset
    return f"{name}{ending}{SANDBOX if is_sandbox else ''}"


@contextlib.contextmanager
def database_aside(folder: Path) -> Iterator[None]:
    """Move the DuckDB file `:pipeline:` out of dlt's folder of a pipeline while dlt deletes it, and in again.

    After a kill the next run moves it in, when it locks the folder.
    """
    database_back(folder)
    for inside, aside in _moved(folder):
        with contextlib.suppress(FileNotFoundError):
            inside.replace(aside)
    try:
        yield
    finally:
        database_back(folder)


def database_back(folder: Path) -> None:
    """Move in the DuckDB file that was moved out of dlt's folder of a pipeline, if there is one.

    Raises `ConfigError` if another one was made in its place since: both may have rows that nothing else has.
    """
    inside, aside = _moved(folder)[0]
    if inside.exists() and aside.exists():
        raise ConfigError(
            f"There are two databases: {aside} is what a killed run left, and {inside} was made since",
            advice="Move one of them to another folder, and run again: the next run uses the other one.",
        )
    for inside, aside in reversed(_moved(folder)):
        with contextlib.suppress(FileNotFoundError):
            aside.replace(inside)


def _moved(folder: Path) -> list[tuple[Path, Path]]:
    """The files that are moved, and where to. The database is never there without its log, which may hold rows."""
    names = (f"{folder.name}.duckdb", f"{folder.name}.duckdb.wal")
    return [(folder / name, folder.parent / f"{name}.aside") for name in names]


def duckdb_file(destination: str = DUCKDB[0]) -> Path:
    """The full path of the DuckDB file of a destination in `DUCKDB`.

    For the real copy dlt resolves it as for the pipeline `paystack_customers`. So each way to set the file in dlt works
    for every command.

    Raises:
        ConfigError: dlt's settings name the sandbox's file for the real copy, or the folder's name is not UTF-8.

    """
    try:
        str(Path.cwd()).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            "The name of this folder is no UTF-8; dlt and DuckDB cannot keep a copy here",
            advice="Run in a folder with another name.",
        ) from None
    if destination == DUCKDB[1]:
        return Path(SANDBOX_DATABASE).absolute()
    import dlt  # noqa: PLC0415  takes a second
    from dlt.common.configuration.container import Container  # noqa: PLC0415
    from dlt.common.configuration.resolve import resolve_configuration  # noqa: PLC0415
    from dlt.common.configuration.specs.config_section_context import ConfigSectionContext  # noqa: PLC0415
    from dlt.common.pipeline import get_dlt_pipelines_dir  # noqa: PLC0415
    from dlt.destinations.impl.duckdb.configuration import DuckDbClientConfiguration  # noqa: PLC0415

    config = DuckDbClientConfiguration()
    config.dataset_name = "paystack"
    config.pipeline_name = DATABASE
    config.local_dir = os.path.abspath(dlt.current.run_context().local_dir)  # noqa: PTH100  as dlt writes it
    config.pipeline_working_dir = str(Path(get_dlt_pipelines_dir()) / DATABASE)
    with Container().injectable_context(ConfigSectionContext(pipeline_name=DATABASE)):
        found = Path(resolve_configuration(config, sections=("destination", "duckdb")).credentials.database)
    if found.resolve() == Path(SANDBOX_DATABASE).resolve():
        raise ConfigError(
            f"{found} is the file of the sandbox's copy",
            advice="Name another one for DuckDB in dlt's settings.",
        )
    return found
