"""The folders of runs: a private folder for each run in `paystack_results/`; and the register of applied plans.

paystack_results/                       paystack_results_NAME/ for a named account
  20261123-121530-risk-action-3f9a/
    plan.plan        the sealed plan, as it was applied
    journal.sqlite   the events of the run
    run.lock         empty; locked by the process that applies or resumes the run
    results.csv, failed.csv, unknown.csv, unsent.csv, summary.json, results.sha256

A plan is applied only once, in all folders. Each plan has one small file, named after its id, in up to three folders:

    XDG_STATE_HOME/paystack-source/plans/   this user's register; default ~/.local/state/paystack-source/plans/
    paystack_results/.plans/                the results folder of the run
    .plans/ beside the plan                 for another user who applies the same plan file

A process that applies the plan or resumes its run locks all of them (by an empty file beside each, `ID.lock`), and
writes an entry into each before anything is sent. An entry has an account, a key mode and a host: a plan that was
applied in the sandbox can still be applied to the real account. The files hold no personal data.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from paystack_source.bulk.plan.plan import RUN_JOURNAL, RUN_PLAN, Plan
from paystack_source.bulk.run.journal import Journal
from paystack_source.commands import called, quoted
from paystack_source.errors import BusyError, ConfigError, EditedJournalError, JournalError, NoSuchRunError
from paystack_source.file_lock import try_lock, unlocked_at_end, wait_for_lock
from paystack_source.private_files import check_private, open_private, path_of, private_folder, stored_path
from paystack_source.settings import SANDBOX

RESULTS_FOLDER: Final = Path("paystack_results")
_IN_JOURNAL: Final = ("plan_id", "seal", "operation", "account", "key_mode", "host")
"""The fields of the plan's header that are in the journal's metadata."""
STATE_NAME: Final = "XDG_STATE_HOME"
NOTES: Final = ".plans"
_RUN_ID: Final = re.compile(r"^\d{8}-\d{6}-[a-z-]+-[0-9a-f]{4,}$")


def results_folder(account: str | None = None, *, sandbox: bool = False) -> Path:
    """The results folder of an account. Each account has its own, so `latest` is never a run of another account."""
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
        self.results = [folder / f"{name}.csv" for name in ("results", "failed", "unknown", "unsent")]
        self.results_file, self.failed_file, self.unknown_file, self.unsent_file = self.results
        self.hash_file = folder / "results.sha256"
        self.summary_file = folder / "summary.json"

    @property
    def name(self) -> str:
        """The run's name for a command in this working folder: its id, or its path if it is in another folder."""
        here = (RESULTS_FOLDER / self.run_id).absolute() == self.folder.absolute()
        return self.run_id if here else quoted(self.folder)

    def keep_edited_results(self) -> list[str]:
        """Rename result files that somebody edited, so that they are not replaced; returns the warnings."""
        ended = self.summary_file.stat().st_mtime_ns if self.summary_file.is_file() else None
        warnings = []
        for path in self.results[1:]:
            if ended is not None and path.is_file() and path.stat().st_mtime_ns > ended:
                names = (
                    path.with_stem(f"{path.stem}.edited{f'_{n}' if n > 1 else ''}")
                    for n in itertools.count(1)
                )
                kept = path.rename(next(name for name in names if not name.exists()))
                warnings.append(f"{path.name} was edited since it was written; it is kept as {kept}.")
        return warnings

    def discard_results(self) -> list[str]:
        """Delete the last session's result files, which this session writes again at its end; returns the warnings."""
        warnings = self.keep_edited_results()
        for path in (self.summary_file, *self.results[1:]):
            path.unlink(missing_ok=True)
        return warnings

    def plan(self) -> Plan:
        """Open the plan of this run and check its seal. Raises `ConfigError` if other users could change it."""
        check_private(self.folder)
        try:
            return Plan.open(self.plan_file)
        except (FileNotFoundError, PermissionError) as error:
            raise self._damaged(f"its plan cannot be opened ({error.strerror})") from None

    def journal(self) -> Journal:
        """Open the journal. Raises `NoSuchRunError` if it cannot be read, and `ConfigError` as `plan` does."""
        check_private(self.folder)
        try:
            return Journal(self.journal_file)
        except (JournalError, PermissionError) as error:
            raise self._damaged(str(error)) from None

    def check_journal(self) -> None:
        """Raise `EditedJournalError` if somebody edited the journal, or replaced it by an older one.

        The register and the results folder have the journal's length and hash at the end of the last session.
        """
        plan_id = self.plan().header.plan_id
        with self.journal() as journal:
            journal.verify()
            files = _entry_files(plan_id, self.folder.parent, self.plan_file)
            for entry in itertools.chain.from_iterable(map(_read, files)):
                if entry.run_id != self.run_id or not entry.events:
                    continue
                chain = journal.chain_at(entry.events)
                if chain is None or chain != (entry.chain or chain):
                    raise EditedJournalError(
                        f"The journal of the run {self.run_id} is not the one that it ended with: that one had "
                        f"{entry.events:,} events or more, this one is older or another one."
                    )

    @contextlib.contextmanager
    def hold_lock(self) -> Iterator[None]:
        """Hold the run's lock, so that `is_busy` is true in other processes. Waits while they evaluate `is_busy`."""
        if not self.plan_file.is_file():
            raise self._damaged("there is no plan in it")
        with unlocked_at_end(open_private(self.lock_file)) as handle:
            wait_for_lock(handle)
            yield

    @property
    def is_busy(self) -> bool:
        """Whether a process is applying or resuming this run now. This does not block that process."""
        try:
            with unlocked_at_end(os.open(self.lock_file, os.O_RDONLY)) as handle:
                return not try_lock(handle, shared=True)
        except FileNotFoundError:
            return False

    def _damaged(self, why: str) -> NoSuchRunError:
        advice = "Put its files back, or move its folder elsewhere."
        # Also to read a journal, SQLite writes into its folder.
        if not all(os.access(path, os.R_OK | os.W_OK) for path in (self.folder, *self.folder.glob("*"))):
            advice = f"You may not read and write all of it: chmod -R u+rwX {quoted(self.folder)}"
        return NoSuchRunError(f"The run {self.run_id} cannot be read: {why}", advice=advice)


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
        # It is created under another name, so that a folder with a run's name is always complete.
        part = self.root / f".{run_id}.part"
        part.mkdir(mode=0o700)
        try:
            made = Run(part)
            plan.snapshot.save(made.plan_file)
            meta = {name: getattr(plan.header, name) for name in _IN_JOURNAL}
            Journal.create(made.journal_file, {"run_id": run_id, **meta}).close()
            part.rename(run.folder)
        finally:  # after a full disk it would stay, with the plan's personal data
            shutil.rmtree(part, ignore_errors=True)
        return run

    def open(self, name: str) -> Run:
        """The run `name`: an id, a unique beginning of an id, a folder, or `latest`.

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
        what = f"Several runs begin with {name}" if found else f"There is no run {name}"
        raise NoSuchRunError(
            f"{'There is no run' if name == 'latest' else what} in {self.root}",
            advice=f"See {called('bulk')} status for the runs; for runs of the sandbox add --sandbox, "
            "for runs of a named account --account NAME.",
        )

    def new_plan_file(self, operation: str, source: Path) -> Path:
        """The default path of a new plan: a name after the input's, in `plans/` of the results folder."""
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
        """The runs in this folder, and runs in other folders that the user's register has for `scope`."""
        here = list(self)
        yield from here
        known = {run.folder.resolve() for run in here}
        yield from (
            Run(folder)
            for entry in registered(scope)
            if entry.folder_exists and (folder := Path(entry.folder)) not in known
        )

    @contextlib.contextmanager
    def lock(self, plan: Plan) -> Iterator[PlanLock]:
        """Lock the plan, so that no other process applies or resumes it, from this file or from a copy of it.

        Raises `BusyError` if another process has locked it. The plan's file may have been deleted after it was read.
        """
        private_folder(self.root)
        own = owner(plan.path)
        with lock_plan(plan.header.plan_id, self.root, plan.path) as locked, contextlib.ExitStack() as stack:
            if own is not None:
                stack.enter_context(own.hold_lock())
            elif os.name != "nt":  # on Windows nobody could read a locked plan: only the register is locked
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


# -- which run applied a plan --------------------------------------------------------------------------------


class Scope(msgspec.Struct, frozen=True):
    """The account that a plan was applied to. `account` is None if the account had no customers to show its number."""

    account: int | None
    key_mode: str
    host: str
    server: str = ""
    """The base URL, or a sandbox's state file, because all sandboxes may have the same account number."""

    def may_equal(self, other: Scope) -> bool:
        """Whether both may be the same account. Servers are not compared: a sandbox has a new port at each start."""
        same = (self.key_mode, self.host) == (other.key_mode, other.host)
        return same and (None in (self.account, other.account) or self.account == other.account)


class AppliedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A run that applied a plan. `ended` and `events` belong to its last session; times are since 1970."""

    run_id: str
    folder: str
    scope: Scope | None = None
    """None for an entry of an older version."""
    started: float = 0.0
    ended: float | None = None
    events: int | None = None
    chain: str | None = None
    """The hash of the last of these events. A journal without it is older, or another one."""

    @property
    def folder_exists(self) -> bool:
        """Whether the run's folder still exists at this path."""
        return (Path(self.folder) / RUN_JOURNAL).is_file()

    def is_of(self, folder: Path) -> bool:
        """Whether the entry is of the run in this folder, which may have been moved since, but not copied."""
        return self.run_id == folder.name and (
            not self.folder_exists or Path(self.folder).resolve() == folder.resolve()
        )


def register() -> Path | None:
    """The folder of the user's register; None if the user has no home folder."""
    named = Path(os.environ.get(STATE_NAME, ""))
    if not named.is_absolute():  # the XDG specification says to ignore it
        try:
            named = Path.home() / ".local" / "state"
        except RuntimeError:
            return None
    return named / "paystack-source" / "plans"


def registered(scope: Scope | None = None) -> Iterator[AppliedPlan]:
    """The newest entry of each run in the user's register, with `scope` only of runs on that account and server."""
    folder = register()
    try:
        paths = sorted(path for path in folder.iterdir() if not path.suffix) if folder is not None else []
    except OSError:
        return
    for path in paths:
        for entry in {entry.run_id: entry for entry in _read(path)}.values():
            on = entry.scope
            if scope is None or (on is not None and on.may_equal(scope) and on.server == scope.server):
                yield entry


class PlanLock(NamedTuple):
    """The entries of one plan, while this process has locked its files. Made by `lock_plan`."""

    handles: Sequence[tuple[Path, int]]
    problem: str | None
    """Why the user's register cannot be used for this plan; None if it can."""

    def applied(self, scope: Scope) -> AppliedPlan | None:
        """The newest entry for this account; None if there is none."""
        found = [entry for path, _ in self.handles for entry in _read(path)]
        found = [entry for entry in found if entry.scope is None or entry.scope.may_equal(scope)]
        return max(found, key=lambda entry: entry.started, default=None)

    def end(self, folder: Path, ended: float, events: int, chain: str | None) -> None:
        """Record a session's end and the journal's length, in case folder or journal are deleted or replaced.

        Of a copy of the run's folder nothing is recorded: its journal is another one.
        """
        entries = [entry for path, _ in self.handles for entry in _read(path) if entry.is_of(folder)]
        if entries:
            self.add(msgspec.structs.replace(entries[-1], ended=ended, events=events, chain=chain))

    def add(self, entry: AppliedPlan) -> None:
        """Write the entry into every file. It is on disk when this returns."""
        entry = msgspec.structs.replace(entry, folder=stored_path(Path(entry.folder)))
        line = b"\n" + msgspec.json.encode(entry) + b"\n"  # a kill may have cut off the previous line
        for _, handle in self.handles:
            os.lseek(handle, 0, os.SEEK_END)
            os.write(handle, line)
            os.fsync(handle)


@contextlib.contextmanager
def lock_plan(plan_id: str, results: Path, plan_file: Path) -> Iterator[PlanLock]:
    """Lock the files of a plan, so that no other process applies it or resumes its run. Raises `BusyError`."""
    user, problem, handles = register(), None, list[tuple[Path, int]]()
    if user is None:
        problem = _no_register("the register of applied plans cannot be written: there is no home folder")
    with contextlib.ExitStack() as stack:
        for path in _entry_files(plan_id, results, plan_file):
            files = (path, path.with_suffix(".lock"))
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                handle, lock = (stack.enter_context(unlocked_at_end(open_private(file))) for file in files)
            except OSError as error:
                exists, needed = any(map(os.path.lexists, files)), path.parent == results.resolve() / NOTES
                if exists or (needed and isinstance(error, PermissionError)):
                    whose = "file. Plan again if that run does not matter" if exists else "folder"
                    raise ConfigError(
                        f"{path} records which run applied this plan, and it cannot be opened ({error.strerror}).",
                        advice=f"Check who owns the {whose}.",
                    ) from None
                if needed:
                    raise
                if path.parent == user:
                    problem = _no_register(f"{user} cannot be written ({error.strerror})")
                continue
            lock_file(lock)
            handles.append((path, handle))
        yield PlanLock(handles, problem)


def lock_file(handle: int) -> None:
    """Take the lock of an open file, or raise `BusyError`."""
    if not try_lock(handle):
        raise BusyError(
            "This plan is being applied by another process.",
            advice=f"Wait until it ends; {called('bulk')} status shows how far it is.",
        )


def _no_register(why: str) -> str:
    return (
        f"{why[0].upper()}{why[1:]}. So the apply of this plan is recorded only in the results folder, beside the plan "
        f"and in the warehouse. Set {STATE_NAME} to a permanent folder."
    )


def _entry_files(plan_id: str, results: Path, plan_file: Path) -> list[Path]:
    """The files for entries of this plan, each once: in the register, among the results, beside the plan."""
    near = plan_file.resolve().parent
    known = [folder / NOTES for folder in (near, near.parent) if (folder / NOTES).is_dir()]
    own = results.resolve() / NOTES
    within = own.parent in (near, near.parent)  # a plan among the results
    beside = own if within else known[0] if known else near / NOTES
    name = re.sub(r"[^A-Za-z0-9_-]", "_", plan_id)
    return [folder / name for folder in dict.fromkeys((register(), own, beside)) if folder is not None]


def _read(path: Path) -> list[AppliedPlan]:
    """The entries in a file. A line that was cut off is ignored: nothing was sent before it was complete."""
    entries = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        if os.path.lexists(path):
            raise
        lines = []  # no file, or no folder that could be read or written, as `lock_plan` takes it
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):
            if re.fullmatch(rb"[0-9a-z-]+", line):  # an entry of an older version
                entries.append(
                    AppliedPlan(run_id=line.decode(), folder=str(path.parent.parent / line.decode()))
                )
            elif line:
                entry = msgspec.json.decode(line, type=AppliedPlan)
                entries.append(msgspec.structs.replace(entry, folder=str(path_of(entry.folder))))
    return entries
