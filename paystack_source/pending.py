"""Loads that a killed run left behind: each is begun again at its beginning.

dlt would go on where it stopped. It empties its staging tables only when it begins a load, so a job that was killed
after its rows were there, and before dlt had noted it, would bring them a second time, and an upsert keeps both.
From the beginning, and with emptied staging tables, all jobs come to the same as if nothing had happened (measured
with dlt 1.31, whose names of files and folders these are).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dlt.common.storages.load_package import PackageStorage

if TYPE_CHECKING:
    from dlt.pipeline.pipeline import Pipeline

SCHEMA = "paystack"
"""The name of the sources, which dlt gives to their schema."""

_MADE_BY_JOBS = {".sql", ".reference"}
"""Jobs that dlt makes once others are done."""


def begin_anew(pipeline: Pipeline) -> None:
    """Put what waits to be loaded back to where its load begins; for destinations that merge in a database."""
    for load in pipeline.list_normalized_load_packages():
        info = pipeline.get_load_package_info(load)
        if info.schema_name != SCHEMA:
            continue  # somebody else's, which may not bear to be loaded twice
        package = Path(info.package_path)
        done = package / PackageStorage.APPLIED_SCHEMA_UPDATES_FILE_NAME
        if done.exists():
            done.replace(package / PackageStorage.SCHEMA_UPDATES_FILE_NAME)  # what dlt begins a load by
        for note in package.glob(f"{PackageStorage.PENDING_TRANSITIONS_FOLDER}/*"):
            note.unlink()
        for job in package.glob("*_jobs/*"):
            if job.suffix in _MADE_BY_JOBS:
                job.unlink()
            elif job.parent.name != PackageStorage.FAILED_JOBS_FOLDER:
                job.replace(package / PackageStorage.NEW_JOBS_FOLDER / job.name)
