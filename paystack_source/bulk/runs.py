"""Where runs live: a private folder each under `paystack_results/`, and the locks around a plan.

    paystack_results/
      20261123-121530-risk-action-3f9a/
        plan.plan        the sealed plan, as it was applied
        journal.sqlite   what happened
        results.csv, failed.csv, unsent.csv, summary.json
      .plans/            one small file per plan: locked while it is applied, then naming its run

The locks are the kernel's (`flock`): they vanish with the process that held them, so a kill leaves nothing
to clean up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from paystack_source.bulk.journal import Journal
from paystack_source.bulk.plan import Plan
from paystack_source.errors import BusyError, JournalError, NoSuchRunError

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS_FOLDER: Final = Path("paystack_results")
_RUN_ID: Final = re.compile(r"^\d{8}-\d{6}-[a-z-]+-[0-9a-f]{4,}$")


class Run:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_id = folder.name
        self.plan_file = folder / "plan.plan"
        self.journal_file = folder / "journal.sqlite"
        self.results_file = folder / "results.csv"
        self.failed_file = folder / "failed.csv"
        self.unknown_file = folder / "unknown.csv"
        self.unsent_file = folder / "unsent.csv"
        self.summary_file = folder / "summary.json"

    @property
    def name(self) -> str:
        """What a command names it by that is typed in this working folder: its id, or its folder if it is elsewhere."""
        here = (RESULTS_FOLDER / self.run_id).absolute() == self.folder.absolute()
        return self.run_id if here else shlex.quote(str(self.folder))

    def beside(self, run_id: str) -> Run:
        """Another run in the same results folder."""
        return Run(self.folder.parent / run_id)

    def withdraw(self) -> None:
        """Takes back what an earlier session said of the rows; `summary.json`, written last, says it is said anew."""
        for path in (self.summary_file, self.failed_file, self.unknown_file, self.unsent_file):
            path.unlink(missing_ok=True)

    def plan(self) -> Plan:
        """The plan that this run applies; its seal is checked again."""
        try:
            return Plan.open(self.plan_file)
        except FileNotFoundError:
            raise self._damaged("there is no plan in it") from None

    def journal(self) -> Journal:
        """Its journal, open. Raises `NoSuchRunError` if the folder holds none that can be read."""
        try:
            return Journal(self.journal_file)
        except JournalError as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, why: str) -> NoSuchRunError:
        return NoSuchRunError(
            f"The run {self.run_id} cannot be read: {why}",
            advice="Put its files back, or move its folder elsewhere.",
        )


class Runs:
    """The runs in one results folder."""

    def __init__(self, root: str | Path | None = None) -> None:
        """`root` is created, readable by its owner only, with the first run."""
        self.root = Path(root) if root is not None else RESULTS_FOLDER

    def create(self, plan: Plan, meta: dict[str, Any], *, now: datetime, run_id: str | None = None) -> Run:
        """A new run of `plan`: folder, copy of the plan, empty journal. Call it with the plan locked."""
        run_id = run_id or f"{now:%Y%m%d-%H%M%S}-{plan.header.operation}-{secrets.token_hex(2)}"
        _private_folder(self.root)
        run = Run(self.root / run_id)
        # Built aside and moved into place, so that a folder with a run's name is always a whole run.
        part = self.root / f".{run_id}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        made = Run(part)
        plan.save(made.plan_file)
        Journal.create(made.journal_file, {"run_id": run_id, **meta}).close()
        # The claim first: a run that has no claim may never send anything (see `check_claim`).
        self._claim_file(plan.header.plan_id).write_text(run_id)
        part.rename(run.folder)
        return run

    def open(self, name: str) -> Run:
        """The run of this id, unique beginning of an id, folder, or `latest`. Raises `NoSuchRunError`."""
        folder = Path(name)
        if (folder / "journal.sqlite").is_file():
            return Run(folder)
        found = [run for run in self if run.run_id.startswith(name)] if name != "latest" else list(self)[:1]
        if len(found) == 1 or (found and found[0].run_id == name):
            return found[0]
        what = "several runs begin with" if found else "there is no run"
        raise NoSuchRunError(
            f"{what} {name} in {self.root}",
            advice="See `bulk.py status` for the runs; those of the sandbox need --sandbox.",
        )

    def new_plan_file(self, operation: str, source: Path) -> Path:
        """Where a plan goes when nobody says where: `plans/` among the results, named after the input."""
        folder = self.root / "plans"
        for path in (self.root, folder):
            _private_folder(path)
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", source.stem)[:40].strip("-") or "input"
        now = datetime.now(UTC)
        return folder / f"{stem}-{operation}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}.plan"

    def __iter__(self) -> Iterator[Run]:
        """Newest first."""
        if not self.root.is_dir():
            return
        folders = [entry for entry in self.root.iterdir() if _RUN_ID.match(entry.name)]
        yield from (Run(entry) for entry in sorted(folders, key=lambda entry: entry.name, reverse=True))

    def run_of(self, plan: Plan) -> Run | None:
        """The run that applied this plan, if one did."""
        claim = self._claim_file(plan.header.plan_id)
        name = claim.read_text() if claim.is_file() else ""
        return Run(self.root / name) if name and (self.root / name).is_dir() else None

    def check_claim(self, run: Run, plan: Plan) -> None:
        """Raises `BusyError` if another run has applied this plan since."""
        holder = self.run_of(plan)
        if holder is not None and holder.run_id != run.run_id:
            raise BusyError(
                f"The plan of this run was applied by run {holder.run_id}.",
                advice=f"Go on with that one: `bulk.py resume {holder.run_id}`.",
            )

    @contextlib.contextmanager
    def lock(self, plan: Plan) -> Iterator[None]:
        """Nobody else applies or resumes this plan meanwhile: neither this file nor a copy of it, here.

        Raises `BusyError` at once if somebody does.
        """
        _private_folder(self.root)
        claim = self._claim_file(plan.header.plan_id)
        _private_folder(claim.parent)
        with contextlib.ExitStack() as stack:
            for path, flags in ((claim, os.O_RDWR | os.O_CREAT), (plan.path, os.O_RDONLY)):
                handle = os.open(path, flags, 0o600)
                stack.callback(os.close, handle)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BusyError(
                        "This plan is being applied by another process.",
                        advice="Wait until it ends; `bulk.py status` shows how far it is.",
                    ) from None
            yield

    def is_busy(self, run: Run) -> bool:
        """Whether a process is applying or resuming this run now."""
        try:
            with self.lock(run.plan()):
                return False
        except BusyError:
            return True

    def _claim_file(self, plan_id: str) -> Path:
        return self.root / ".plans" / re.sub(r"[^A-Za-z0-9_-]", "_", plan_id)


def utc(seconds: float) -> datetime:
    """Seconds since 1970 as an aware time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def _private_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
