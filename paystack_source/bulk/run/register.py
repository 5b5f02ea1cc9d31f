"""The register of applied plans: which run applied a plan, and where. So a plan is applied once, in whatever folder.

Each plan has one small file, named after its id, in up to three folders:

    XDG_STATE_HOME/paystack-source/plans/   this user's register; default ~/.local/state/paystack-source/plans/
    paystack_results/.plans/                the results folder of the run
    .plans/ beside the plan                 for another user who applies the same plan file

A process that applies the plan or resumes its run locks all of them (by an empty file beside each, `ID.lock`), and
writes an entry into each before anything is sent. An entry has an account, a key mode and a host: a plan that was
applied in the sandbox can still be applied to the real account. The files hold no personal data.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from paystack_source.commands import called
from paystack_source.errors import BusyError, ConfigError
from paystack_source.file_lock import try_lock, unlocked_at_end
from paystack_source.private_files import open_private, path_of, stored_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STATE_NAME: Final = "XDG_STATE_HOME"
NOTES: Final = ".plans"


class Scope(msgspec.Struct, frozen=True):
    """The account that a plan was applied to. `account` is None if the account had no customers to show its number."""

    account: int | None
    key_mode: str
    host: str
    server: str = ""
    """The base URL, or the state file of a sandbox: all sandboxes may have the same account number."""

    def meets(self, other: Scope) -> bool:
        """Whether both may be the same account. Servers are not compared: a sandbox has a new port at each start."""
        same = (self.key_mode, self.host) == (other.key_mode, other.host)
        return same and (None in (self.account, other.account) or self.account == other.account)

    def shares_customers_with(self, other: Scope) -> bool:
        """Whether a change in one is a change in the other."""
        return self.meets(other) and self.server == other.server


class AppliedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """An entry: a run that applied a plan. `ended` and `events` belong to its last session; times are since 1970."""

    run_id: str
    folder: str
    scope: Scope | None = None
    """None for an entry of an older version."""
    started: float = 0.0
    ended: float | None = None
    events: int | None = None
    chain: str | None = None
    """The hash of the last of these events: a journal without it is another one, or an older one."""

    @property
    def is_there(self) -> bool:
        """Whether the run's folder still exists at this path."""
        return (Path(self.folder) / "journal.sqlite").is_file()

    def is_of(self, folder: Path) -> bool:
        """Whether it is the entry of the run in this folder. The folder may have been moved since, but not copied."""
        return self.run_id == folder.name and (
            not self.is_there or Path(self.folder).resolve() == folder.resolve()
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
    """The newest entry of each run in the user's register; with `scope` only runs on that account."""
    folder = register()
    try:
        paths = sorted(path for path in folder.iterdir() if not path.suffix) if folder is not None else []
    except OSError:
        return
    for path in paths:
        for entry in {entry.run_id: entry for entry in _read(path)}.values():
            if scope is None or (entry.scope is not None and entry.scope.shares_customers_with(scope)):
                yield entry


class PlanLock:
    """The entries of one plan, while this process has locked its files. Made by `lock_plan`."""

    def __init__(self, handles: Sequence[tuple[Path, int]], problem: str | None) -> None:
        self._handles = handles
        self.problem = problem
        """Why the user's register cannot be used for this plan; None if it can."""

    def applied(self, scope: Scope) -> AppliedPlan | None:
        """The newest entry for this account; None if there is none."""
        found = [entry for path, _ in self._handles for entry in _read(path)]
        found = [entry for entry in found if entry.scope is None or entry.scope.meets(scope)]
        return max(found, key=lambda entry: entry.started, default=None)

    def end(self, run_id: str, ended: float, events: int, chain: str | None) -> None:
        """Record a session's end and the journal's length, in case the folder is deleted or the journal replaced."""
        entries = [entry for path, _ in self._handles for entry in _read(path) if entry.run_id == run_id]
        if entries:
            self.add(msgspec.structs.replace(entries[-1], ended=ended, events=events, chain=chain))

    def add(self, entry: AppliedPlan) -> None:
        """Write the entry into every file; it is on disk when this returns."""
        entry = msgspec.structs.replace(entry, folder=stored_path(Path(entry.folder)))
        line = b"\n" + msgspec.json.encode(entry) + b"\n"  # a kill may have cut off the line before
        for _, handle in self._handles:
            os.lseek(handle, 0, os.SEEK_END)
            os.write(handle, line)
            os.fsync(handle)


@contextlib.contextmanager
def lock_plan(plan_id: str, results: Path, plan_file: Path) -> Iterator[PlanLock]:
    """Lock the files of a plan, so that no other process applies it or resumes its run. Raises `BusyError`."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", plan_id)
    problem, handles = None, list[tuple[Path, int]]()
    with contextlib.ExitStack() as stack:
        for folder, needed in _folders(results, plan_file):
            path = folder / name
            files = (path, path.with_suffix(".lock"))
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                handle, lock = (stack.enter_context(unlocked_at_end(open_private(file))) for file in files)
            except OSError as error:
                if any(os.path.lexists(file) for file in files):
                    raise ConfigError(
                        f"{path} says who applied this plan, and it cannot be opened ({error.strerror}).",
                        advice="Look who owns it. Plan again if that run is of no concern.",
                    ) from None
                if needed:
                    raise
                if folder == register():
                    problem = _no_register(f"{folder} cannot be written ({error.strerror})")
                continue
            lock_file(lock)
            handles.append((path, handle))
        if register() is None:
            problem = _no_register("the register of applied plans cannot be written, there is no home folder")
        yield PlanLock(handles, problem)


def entries_of(plan_id: str, results: Path, plan_file: Path) -> list[AppliedPlan]:
    """All entries of this plan, read without a lock."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", plan_id)
    return [entry for folder, _ in _folders(results, plan_file) for entry in _read(folder / name)]


def lock_file(handle: int) -> None:
    """Take the lock of an open file, or raise `BusyError`."""
    if not try_lock(handle):
        raise BusyError(
            "This plan is being applied by another process.",
            advice=f"Wait until it ends; {called('bulk')} status shows how far it is.",
        )


def _no_register(why: str) -> str:
    return (
        f"{why[0].upper()}{why[1:]}: that this plan was applied is known only in the results folder, beside the plan "
        f"and in the warehouse. Set {STATE_NAME} to a folder that stays."
    )


def _folders(results: Path, plan_file: Path) -> list[tuple[Path, bool]]:
    """The folders for entries of this plan, each once, and whether it is an error if one cannot be written."""
    near = plan_file.resolve().parent
    known = [folder / NOTES for folder in (near, near.parent) if (folder / NOTES).is_dir()]
    user, own = register(), results.resolve() / NOTES
    within = own.parent in (near, near.parent)  # a plan among the results
    beside = own if within else known[0] if known else near / NOTES
    folders = [(user, False)] if user is not None else []
    folders.append((own, True))
    return folders if beside == own else [*folders, (beside, False)]


def _read(path: Path) -> list[AppliedPlan]:
    """The entries in a file. A line that was cut off does not count: nothing was sent before it was complete."""
    entries = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(msgspec.DecodeError):
                if re.fullmatch(rb"[0-9a-z-]+", line):  # an entry of an older version
                    entries.append(
                        AppliedPlan(run_id=line.decode(), folder=str(path.parent.parent / line.decode()))
                    )
                elif line:
                    entry = msgspec.json.decode(line, type=AppliedPlan)
                    entries.append(msgspec.structs.replace(entry, folder=str(path_of(entry.folder))))
    return entries
