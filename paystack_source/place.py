"""Where the copy is: the same answer for every command that is started in the same folder.

dlt remembers the folder in which a pipeline first ran and goes on keeping a DuckDB file there, and it keeps
its memory of one pipeline name in one working folder for all of them. Two projects on one machine would share
a file and a memory of what is proven. So the file is always named in full, and a memory of another place is
dropped: dlt restores it from the destination, where it is kept with the rows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlt.pipeline.pipeline import Pipeline

DATABASE = "paystack_customers.duckdb"


def duckdb_file() -> Path:
    """The DuckDB file in full: dlt's own setting, else `paystack_customers.duckdb` in the working folder."""
    named: Any = os.environ.get("DESTINATION__DUCKDB__CREDENTIALS")
    if not named:
        import dlt  # noqa: PLC0415  takes a second

        named = dlt.secrets.get("destination.duckdb.credentials")
        named = named.get("database") if isinstance(named, dict) else named
    return Path(named.removeprefix("duckdb:///") if named else DATABASE).absolute()


def forget_other_places(pipeline: Pipeline) -> None:
    """Drop dlt's local memory of this pipeline if it is of another folder or destination.

    Call it where no other run of the pipeline can be under way.
    """
    import dlt  # noqa: PLC0415

    folder = os.path.abspath(dlt.current.run_context().local_dir)  # noqa: PTH100  as dlt writes it
    if pipeline.get_local_state_val("initial_cwd") != folder:
        pipeline.drop()
    place = f"{pipeline.destination_client().config}\n{pipeline.dataset_name}\n"
    note = Path(pipeline.pipelines_dir) / f"{pipeline.pipeline_name}.place"
    if note.exists() and note.read_text(encoding="utf-8") != place:
        pipeline.drop()
    note.write_text(place, encoding="utf-8")
