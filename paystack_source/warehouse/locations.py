"""Where a copy is stored: the same place for all commands that run in the same folder.

dlt remembers the folder in which a pipeline first ran, and keeps using a DuckDB file there. It keeps one state for a
pipeline name in one working folder. So two projects on one machine would share a file and the proven windows.
Therefore the DuckDB file is always given with its full path, and the state of another location is dropped
(`prepare`); dlt restores it from the destination, where it is stored with the rows.

The copy of a sandbox shares nothing with the real copy, so both can exist in one folder:

    what                        real                        with --sandbox
    --------------------------  --------------------------  ----------------------------
    DuckDB file                 paystack_customers.duckdb,  paystack_sandbox.duckdb,
                                or from dlt's settings      without dlt's settings
    dataset, DuckDB             --dataset                   --dataset
    dataset, other destination  --dataset                   --dataset and `_sandbox`
    dlt's pipelines             paystack_customers, …       the same and `_sandbox`
    results of bulk runs        paystack_results            the same and `_sandbox`

Each dataset has its own pipelines, `paystack_customers_ng` for the dataset `paystack_ng`. dlt's working folder of a
pipeline is for one run at a time, but several accounts may be copied at once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from paystack_source.errors import ConfigError
from paystack_source.settings import DATASET, SANDBOX
from paystack_source.values import counted

if TYPE_CHECKING:
    from dlt.pipeline.pipeline import Pipeline

DUCKDB = ("duckdb", f"duckdb{SANDBOX}")
"""The destinations whose DuckDB file we choose: for the real copy, and for the copy of the sandbox."""

DATABASE = "paystack_customers"
SANDBOX_DATABASE = "paystack_sandbox.duckdb"
_LONGEST = 64
"""The most characters of the name of a schema in dlt; a pipeline's first one has the name of the pipeline."""


def destination_is(pipeline: Pipeline, *kinds: str) -> bool:
    """Whether the pipeline's destination is of one of these types, as dlt calls them."""
    return pipeline.destination.destination_type.rpartition(".")[2] in kinds


def is_lake(pipeline: Pipeline) -> bool:
    """Whether the copy is in files, not in a database."""
    return destination_is(pipeline, "filesystem")


def location_of(pipeline: Pipeline) -> str:
    """The destination's settings, without secrets, and the dataset: equal for two pipelines that fill one dataset."""
    return f"{pipeline.destination_client().config}\n{pipeline.dataset_name}\n"


def sandbox_location(destination: str, dataset: str) -> tuple[str, str]:
    """The destination and dataset of the sandbox's copy, from those of the real copy."""
    if destination in DUCKDB:
        return DUCKDB[1], dataset
    return destination, dataset + SANDBOX


def pipeline_name(name: str, destination: str, dataset: str) -> str:
    """The pipeline `name` of this dataset, as dlt calls it: each dataset has its own pipeline and working folder.

    Raises `ConfigError` if dlt could not name a schema so.
    """
    own = dataset.removesuffix(SANDBOX)
    # `_ng` for `paystack_ng`, nothing for `paystack`, `_kobo` for `kobo`
    ending = "" if own == DATASET else f"_{own.removeprefix(f'{DATASET}_')}"
    is_sandbox = destination == DUCKDB[1] or own != dataset
    made = f"{name}{ending}{SANDBOX if is_sandbox else ''}"
    if len(made) > _LONGEST:
        raise ConfigError(
            f"The name of the dataset {own[:_LONGEST]} is too long by {counted(len(made) - _LONGEST, 'character')}",
            advice="Give the dataset a shorter name, or the account that it is named after.",
        )
    return made


@contextlib.contextmanager
def set_database_aside(folder: Path) -> Iterator[None]:
    """Move the DuckDB file `:pipeline:` out of a pipeline's dlt folder while dlt deletes the folder, then back.

    After a kill the next run moves the file back when it locks the folder.
    """
    restore_database(folder)
    for inside, aside in _moved_files(folder):
        with contextlib.suppress(FileNotFoundError):
            inside.replace(aside)
    try:
        yield
    finally:
        restore_database(folder)


def restore_database(folder: Path) -> None:
    """Move the DuckDB file back into dlt's folder of a pipeline, if `set_database_aside` moved one out.

    Raises `ConfigError` if another file was created in its place: each may have rows that the other lacks.
    """
    inside, aside = _moved_files(folder)[0]
    if inside.exists() and aside.exists():
        raise ConfigError(
            f"There are two databases: a killed run left {aside}, and a later run created {inside}",
            advice="Move one of them to another folder, and run again: the next run uses the other one.",
        )
    for inside, aside in reversed(_moved_files(folder)):
        with contextlib.suppress(FileNotFoundError):
            aside.replace(inside)


def _moved_files(folder: Path) -> list[tuple[Path, Path]]:
    """The files to move, and their new paths. The log may hold rows, so the database is never moved without it."""
    names = (f"{folder.name}.duckdb", f"{folder.name}.duckdb.wal")
    return [(folder / name, folder.parent / f"{name}.aside") for name in names]


def duckdb_file(destination: str = DUCKDB[0]) -> Path:
    """The full path of the DuckDB file of a destination in `DUCKDB`.

    For the real copy dlt resolves it as for the pipeline `paystack_customers`. So every way to set the file in dlt
    works for all commands.

    Raises:
        ConfigError: dlt's settings name the sandbox's file for the real copy, or the folder's name is not UTF-8.

    """
    try:
        str(Path.cwd()).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            "The name of this folder is not UTF-8; dlt and DuckDB cannot store a copy here",
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
