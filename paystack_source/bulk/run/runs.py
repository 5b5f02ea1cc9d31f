"""The folders of runs: a private folder for each run in `paystack_results/`.

paystack_results/                       paystack_results_NAME/ for a named account
  20261123-121530-risk-action-3f9a/
    plan.plan        the sealed plan, as it was applied
    journal.sqlite   the events of the run
    run.lock         empty; locked by the process that applies or resumes the run
    results.csv, failed.csv, unknown.csv, unsent.csv, summary.json, results.sha256
  .plans/            one small file per plan: which run applied it (see `register.py`)
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from paystack_source.bulk.plan.plan import RUN_JOURNAL, RUN_PLAN, Plan
from paystack_source.bulk.run.journal import Journal
from paystack_source.bulk.run.register import PlanLock, entries_of, lock_file, lock_plan, registered
from paystack_source.commands import called, quoted
from paystack_source.errors import EditedJournalError, JournalError, NoSuchRunError
from paystack_source.file_lock import try_lock, unlocked_at_end, wait_for_lock
from paystack_source.private_files import check_private, open_private, private_folder
from paystack_source.settings import SANDBOX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paystack_source.bulk.run.register import Scope

RESULTS_FOLDER: Final = Path("paystack_results")
MAX_AGE: Final = timedelta(hours=24)
"""The greatest age of a plan when it is applied."""
MAX_AGE_RESUMED: Final = timedelta(days=7)
"""The greatest age of a plan when its run is resumed."""
_IN_JOURNAL: Final = ("plan_id", "seal", "operation", "account", "key_mode", "host")
"""The fields of the plan's header that are in the journal's metadata."""
_RUN_ID: Final = re.compile(r"^\d{8}-\d{6}-[a-z-]+-[0-9a-f]{4,}$")


def results_folder(account: str | None = None, *, sandbox: bool = False) -> Path:
    """The results folder of an account. Each account has its own, so that `latest` is never another account's run."""
    own = f"_{account}" if account else ""
    return RESULTS_FOLDER.with_name(f"{RESULTS_FOLDER.name}{own}{SANDBOX if sandbox else ''}")


class Run:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_id = folder.name
        self.plan_file = folder / RUN_PLAN
        self.journal_file = folder / RUN_JOURNAL
        self.lock_file = folder / "run.lock"
        self.results_file = folder / "results.csv"
        self.failed_file = folder / "failed.csv"
        self.unknown_file = folder / "unknown.csv"
        self.unsent_file = folder / "unsent.csv"
        self._parts = (self.failed_file, self.unknown_file, self.unsent_file)
        self.summary_file = folder / "summary.json"

    @property
    def name(self) -> str:
        """The run's name in a command in this working folder: its id, or its path if it is in another folder."""
        here = (RESULTS_FOLDER / self.run_id).absolute() == self.folder.absolute()
        return self.run_id if here else quoted(self.folder)

    def keep_edited_results(self) -> list[str]:
        """Rename result files that somebody edited, before they are written or deleted; returns the warnings."""
        ended = self.summary_file.stat().st_mtime_ns if self.summary_file.is_file() else None
        said = []
        for path in self._parts:
            if ended is not None and path.is_file() and path.stat().st_mtime_ns > ended:
                names = (path.with_stem(f"{path.stem}.edited{f'_{n}' if n > 1 else ''}") for n in count(1))
                kept = path.rename(next(name for name in names if not name.exists()))
                said.append(f"{path.name} was edited since it was written; it is kept as {kept}.")
        return said

    def discard_results(self) -> list[str]:
        """Delete the last session's result files, which this session writes again at its end; returns the warnings."""
        said = self.keep_edited_results()
        for path in (self.summary_file, *self._parts):
            path.unlink(missing_ok=True)
        return said

    def plan(self) -> Plan:
        """Open the plan of this run and check its seal. Raises `ConfigError` if other users could change it."""
        check_private(self.folder)
        try:
            return Plan.open(self.plan_file)
        except FileNotFoundError:
            raise self._damaged("there is no plan in it") from None

    def journal(self) -> Journal:
        """Open the journal. Raises `NoSuchRunError` if it cannot be read, and `ConfigError` as `plan` does."""
        check_private(self.folder)
        try:
            return Journal(self.journal_file)
        except JournalError as error:
            raise self._damaged(str(error)) from None

    def check_journal(self) -> None:
        """Raise `EditedJournalError` if somebody edited the journal, or replaced it by an older one.

        The register and the results folder have the journal's length and hash at the end of the last session.
        """
        plan_id = self.plan().header.plan_id
        with self.journal() as journal:
            journal.verify()
            for entry in entries_of(plan_id, self.folder.parent, self.plan_file):
                if entry.run_id != self.run_id or not entry.events:
                    continue
                chain = journal.chain_at(entry.events)
                if chain is None or chain != (entry.chain or chain):
                    raise EditedJournalError(
                        f"The journal of the run {self.run_id} is not the one that it ended with: that one had "
                        f"{entry.events:,} events or more, this one is older or another one."
                    )

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Hold the run's lock, so that `is_busy` is true in other processes. Waits for processes that ask `is_busy`."""
        if not self.plan_file.is_file():
            raise self._damaged("there is no plan in it")
        with unlocked_at_end(open_private(self.lock_file)) as handle:
            wait_for_lock(handle)
            yield

    @property
    def is_busy(self) -> bool:
        """Whether a process is applying or resuming this run now. Asking does not block such a process."""
        try:
            with unlocked_at_end(os.open(self.lock_file, os.O_RDONLY)) as handle:
                return not try_lock(handle, shared=True)
        except FileNotFoundError:
            return False

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

    def create(self, plan: Plan, *, now: datetime, run_id: str | None = None) -> Run:
        """Create a run of `plan`: its folder, a copy of the plan, an empty journal."""
        run_id = run_id or new_run_id(plan, now)
        private_folder(self.root)
        run = Run(self.root / run_id)
        # Made under another name and renamed, so that a folder with a run's name is always complete.
        part = self.root / f".{run_id}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        made = Run(part)
        plan.save(made.plan_file)
        meta = {name: getattr(plan.header, name) for name in _IN_JOURNAL}
        Journal.create(made.journal_file, {"run_id": run_id, **meta}).close()
        part.rename(run.folder)
        return run

    def open(self, name: str) -> Run:
        """The run with this id, with this unique beginning of an id, in this folder, or `latest`.

        Raises `NoSuchRunError`.
        """
        folder = Path(name)
        if (folder / RUN_JOURNAL).is_file():
            return Run(folder)
        if not name.strip():  # the beginning of every id
            raise NoSuchRunError(
                "The name of the run is blank.", advice="Give its id, the beginning of it, or latest."
            )
        found = [run for run in self if run.run_id.startswith(name)] if name != "latest" else list(self)[:1]
        if len(found) == 1 or (found and found[0].run_id == name):
            return found[0]
        what = "several runs begin with" if found else "there is no run"
        raise NoSuchRunError(
            f"{what} {name} in {self.root}",
            advice=f"See {called('bulk')} status for the runs; those of the sandbox need --sandbox, "
            "those of an account its --account.",
        )

    def new_plan_file(self, operation: str, source: Path) -> Path:
        """The default path of a new plan: in `plans/` of the results folder, named after the input."""
        folder = self.root / "plans"
        for path in (self.root, folder):
            private_folder(path)
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", source.stem)[:40].strip("-") or "input"
        now = datetime.now(UTC)
        return folder / f"{stem}-{operation}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}.plan"

    def __iter__(self) -> Iterator[Run]:
        """The runs, newest first. Raises `ConfigError` if other users may write the results folder."""
        if not self.root.is_dir():
            return
        check_private(self.root)
        found = [Run(entry) for entry in self.root.iterdir() if _RUN_ID.match(entry.name)]
        yield from sorted(
            found, key=lambda run: (run.run_id[:15], run.run_id.rpartition("-")[2]), reverse=True
        )

    def everywhere(self, scope: Scope | None = None) -> Iterator[Run]:
        """The runs in this folder, and those in other folders that the user's register has for `scope`."""
        here = list(self)
        yield from here
        known = {run.folder.resolve() for run in here}
        yield from (
            Run(folder)
            for entry in registered(scope)
            if entry.is_there and (folder := Path(entry.folder)) not in known
        )

    @contextlib.contextmanager
    def lock(self, plan: Plan) -> Iterator[PlanLock]:
        """Lock the plan, so that no other process applies or resumes it, from this file or from a copy of it.

        Raises `BusyError` if another process has locked it. The plan's file may be deleted by now: it was read before.
        """
        private_folder(self.root)
        own = owner(plan.path)
        with lock_plan(plan.header.plan_id, self.root, plan.path) as locked, contextlib.ExitStack() as stack:
            if own is not None:
                stack.enter_context(own.at_work())
            elif os.name != "nt":  # Windows would let nobody read a plan that is locked; its register must do
                with contextlib.suppress(FileNotFoundError):
                    lock_file(stack.enter_context(unlocked_at_end(os.open(plan.path, os.O_RDONLY))))
            yield locked


def new_run_id(plan: Plan, now: datetime) -> str:
    """The id of a run of `plan` that begins now. Its last part begins with the microseconds, so that ids sort."""
    return f"{now:%Y%m%d-%H%M%S}-{plan.header.operation}-{now.microsecond:05x}{secrets.token_hex(2)[1:]}"


def owner(plan_file: Path) -> Run | None:
    """The run in whose folder this plan file is; None for a plan outside of a run's folder."""
    run = Run(plan_file.absolute().parent)
    return run if plan_file.name == run.plan_file.name and run.journal_file.is_file() else None


def utc(seconds: float) -> datetime:
    """Seconds since 1970 as an aware time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
