"""Which plans were applied, by which run and where: what makes "once" hold in every folder.

Each plan has one small file, named after its id, in up to three folders:

    XDG_STATE_HOME/paystack-source/plans/   this user's register; default ~/.local/state/paystack-source/plans/
    paystack_results/.plans/                the results folder that is worked in
    .plans/ beside the plan                 so that another user of the same plan knows

Whoever applies the plan or resumes its run holds all of them (`flock`; the kernel lets go when a process dies), and
writes a line into each before anything is sent. A claim is said of an account, a key mode and a host: a rehearsal in
the sandbox does not use a plan up. The files hold no personal data.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from paystack_source.errors import BusyError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STATE_NAME: Final = "XDG_STATE_HOME"
NOTES: Final = ".plans"


class Scope(msgspec.Struct, frozen=True):
    """Whose customers a plan was applied to. An account without customers does not say which one it is: None."""

    account: int | None
    key_mode: str
    host: str
    server: str = ""
    """The base URL, or the file that holds the state of a sandbox: all sandboxes have the same account."""

    def meets(self, other: Scope) -> bool:
        """Whether both may be the same account. Servers are not compared: a sandbox has another port each time."""
        same = (self.key_mode, self.host) == (other.key_mode, other.host)
        return same and (None in (self.account, other.account) or self.account == other.account)

    def shares_customers_with(self, other: Scope) -> bool:
        """Whether a change in one is a change in the other."""
        return self.meets(other) and self.server == other.server


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A run that applied a plan. `ended` (seconds since 1970) and `events` are as its last session left them."""

    run_id: str
    folder: str
    scope: Scope | None = None
    """None for a note of an older version."""
    started: float = 0.0
    ended: float | None = None
    events: int | None = None

    @property
    def is_there(self) -> bool:
        """Whether the run's folder still is where it was."""
        return (Path(self.folder) / "journal.sqlite").is_file()

    def is_of(self, folder: Path) -> bool:
        """Whether it is the claim of the run in this folder, which may have been moved here, but not copied."""
        return self.run_id == folder.name and (
            not self.is_there or Path(self.folder).resolve() == folder.resolve()
        )


def register() -> Path | None:
    """The folder of the user's register; None if there is no home to put it in."""
    named = Path(os.environ.get(STATE_NAME, ""))
    if not named.is_absolute():  # as the XDG specification wants it
        try:
            named = Path.home() / ".local" / "state"
        except RuntimeError:
            return None
    return named / "paystack-source" / "plans"


def registered(scope: Scope | None = None) -> Iterator[Claim]:
    """The newest claim of each run in the user's register; with a scope, of those on its customers."""
    folder = register()
    try:
        paths = sorted(folder.iterdir()) if folder is not None else []
    except OSError:
        return
    for path in paths:
        for claim in {claim.run_id: claim for claim in _read(path)}.values():
            if scope is None or (claim.scope is not None and claim.scope.shares_customers_with(scope)):
                yield claim


class Claims:
    """The claims on one plan, while this process holds its files. Made by `hold`."""

    def __init__(self, handles: Sequence[tuple[Path, int]], problem: str | None) -> None:
        self._handles = handles
        self.problem = problem
        """Why the user's register does not know of this plan; None if it does."""

    def of(self, scope: Scope) -> Claim | None:
        """The last claim on the plan for this account."""
        found = [claim for path, _ in self._handles for claim in _read(path)]
        found = [claim for claim in found if claim.scope is None or claim.scope.meets(scope)]
        return max(found, key=lambda claim: claim.started, default=None)

    def end(self, run_id: str, ended: float, events: int) -> None:
        """Note how far the run is, for those who may find its folder gone."""
        claims = [claim for path, _ in self._handles for claim in _read(path) if claim.run_id == run_id]
        if claims:
            self.add(msgspec.structs.replace(claims[-1], ended=ended, events=events))

    def add(self, claim: Claim) -> None:
        """Write the claim into every file; it is on disk when this returns."""
        line = b"\n" + msgspec.json.encode(claim) + b"\n"  # apart from one that a kill cut off
        for _, handle in self._handles:
            os.lseek(handle, 0, os.SEEK_END)
            os.write(handle, line)
            os.fsync(handle)


@contextlib.contextmanager
def hold(plan_id: str, results: Path, plan_file: Path) -> Iterator[Claims]:
    """Nobody else applies this plan or resumes its run meanwhile. Raises `BusyError` at once if somebody does."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", plan_id)
    problem, handles = None, list[tuple[Path, int]]()
    with contextlib.ExitStack() as stack:
        for folder, needed in _folders(results, plan_file):
            path = folder / name
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                if _is_there(path):
                    raise ConfigError(
                        f"{path} says who applied this plan, and it cannot be opened ({error.strerror}).",
                        advice="Look who owns it. Plan again if that run is of no concern.",
                    ) from None
                if needed:
                    raise
                if folder == register():
                    problem = _no_register(f"{folder} cannot be written ({error.strerror})")
                continue
            stack.callback(os.close, handle)
            lock(handle)
            handles.append((path, handle))
        if register() is None:
            problem = _no_register("the register of applied plans cannot be written, there is no home folder")
        yield Claims(handles, problem)


def lock(handle: int) -> None:
    """Take the lock of an open file, or raise `BusyError`."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BusyError(
            "This plan is being applied by another process.",
            advice="Wait until it ends; `bulk.py status` shows how far it is.",
        ) from None


def _no_register(why: str) -> str:
    return (
        f"{why[0].upper()}{why[1:]}: that this plan was applied is known only in the results folder, beside the plan "
        f"and in the warehouse. Set {STATE_NAME} to a folder that stays."
    )


def _folders(results: Path, plan_file: Path) -> list[tuple[Path, bool]]:
    """Where claims on this plan are, and whether it is an error if one cannot be written there; each once."""
    near = plan_file.resolve().parent
    known = [folder / NOTES for folder in (near, near.parent) if (folder / NOTES).is_dir()]
    user, own = register(), results.resolve() / NOTES
    within = own.parent in (near, near.parent)  # a plan among the results
    beside = own if within else known[0] if known else near / NOTES
    folders = [(user, False)] if user is not None else []
    folders.append((own, True))
    return folders if beside == own else [*folders, (beside, False)]


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _read(path: Path) -> list[Claim]:
    """The claims in a file. One that was cut off is none: nothing was sent before it was whole."""
    claims = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(msgspec.DecodeError):
                if re.fullmatch(rb"[0-9a-z-]+", line):  # what an older version wrote
                    claims.append(Claim(run_id=line.decode(), folder=str(path.parent.parent / line.decode())))
                elif line:
                    claims.append(msgspec.json.decode(line, type=Claim))
    return claims
