"""What an exception means for the person at the terminal: one message, one advice, one exit code. Pure.

`explain(error)` walks the chain of causes (dlt wraps whatever goes wrong in a step) and names the first thing
it knows. Of what it does not know it says only the type: the text of a stranger's exception may hold a
customer's data.

    what                                             exit code
    -----------------------------------------------  ---------
    an error of this package (`exit_code` attribute)  its own (see paystack_source/api/errors.py)
    bad command line, missing or unusable setting,
      no such destination, an optional part not installed     2 USAGE
    database file in use, disk full, file not usable,
      warehouse not reachable or refusing, out of
      memory                                          1 UNEXPECTED
    Ctrl-C, SIGTERM, SIGHUP                           130 INTERRUPTED
    anything else                                     1 UNEXPECTED
"""

from __future__ import annotations

import errno
import re
import traceback
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from paystack_source.api.privacy import hide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["CommandError", "ExitCode", "Failure", "UsageError", "explain", "masked_traceback"]


class ExitCode(IntEnum):
    """What a command says to the script that called it (docs/exit-codes.md)."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    ROWS_FAILED = 3
    REFUSED = 4
    UNPROVEN = 5
    INTERRUPTED = 130


class CommandError(Exception):
    """A command's own ending: what happened, what to do, with which exit code.

    `details` go into the JSON object that a `--json` run ends with; keep customer data out of all three.
    """

    exit_code: int = ExitCode.UNEXPECTED

    def __init__(
        self,
        message: str,
        advice: str = "",
        *,
        exit_code: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.details = details or {}
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(CommandError):
    """The command cannot run as it was typed; nothing was sent."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Failure:
    """An exception in words. `error` is a stable name for scripts; `advice` is what to do next."""

    exit_code: int
    error: str
    message: str
    advice: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object that a `--json` run ends with when it failed."""
        return {
            "status": "interrupted" if self.exit_code == ExitCode.INTERRUPTED else "error",
            "error": self.error,
            "message": self.message,
            "advice": self.advice,
            "exit_code": int(self.exit_code),
            **self.details,
        }


def explain(error: BaseException) -> Failure:
    """Says what `error`, or the first known thing in its chain of causes, means for the user."""
    chain = list(_chain(error))
    interrupted = _interrupted(chain)
    if interrupted is not None:
        return interrupted
    for reader in (_ours, _usage, _locked, _disk, _dlt, _warehouse, _memory, _file):
        for link in chain:
            failure = reader(link)
            if failure is not None:
                return failure
    name = type(chain[-1] if type(error).__name__ == "PipelineStepFailed" else error).__name__
    return Failure(
        ExitCode.UNEXPECTED,
        name,
        f"unexpected: {name}",
        "Run again with --traceback to see where; what was already saved is kept.",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what caused it, outermost first, each once; dlt keeps its cause in `.exception`."""
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        link = todo.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        context = None if link.__suppress_context__ else link.__context__
        members = link.exceptions if isinstance(link, BaseExceptionGroup) else ()
        inner = (getattr(link, "exception", None), link.__cause__, *members, context)
        todo.extend(item for item in inner if isinstance(item, BaseException))


def _is(error: BaseException, *names: str) -> bool:
    """Whether `error` is of a class with one of these names; dlt and DuckDB need not be imported to ask."""
    return any(cls.__name__ in names for cls in type(error).__mro__)


def _interrupted(chain: Sequence[BaseException]) -> Failure | None:
    """The innermost that carries advice speaks: it was nearest to the work, click's own `Abort` is farthest."""
    stops = [
        link
        for link in chain
        if isinstance(link, KeyboardInterrupt)
        or (_is(link, "Abort") and type(link).__module__.startswith("click"))
    ]
    if not stops:
        return None
    stop = next((link for link in reversed(stops) if getattr(link, "advice", "")), stops[0])
    advice = (
        getattr(stop, "advice", "")
        or "Nothing is lost: run the same command again and it continues where it stopped."
    )
    message = getattr(stop, "message", "") or "Interrupted."
    return Failure(ExitCode.INTERRUPTED, "Interrupted", message, advice, dict(getattr(stop, "details", {})))


def _ours(error: BaseException) -> Failure | None:
    """Errors of this package carry everything: `exit_code`, `message`, `advice`, what Paystack said."""
    code, message = getattr(error, "exit_code", None), getattr(error, "message", None)
    if (
        not isinstance(code, int)
        or not isinstance(message, str)
        or type(error).__module__.startswith("click")
    ):
        return None
    details = {
        name: value
        for name in ("http_status", "type", "code", "next_step")
        if isinstance(value := getattr(error, name, None), str | int)
    }
    own = getattr(error, "details", None)
    details.update(own if isinstance(own, dict) else {})
    return Failure(code, type(error).__name__, message, str(getattr(error, "advice", "") or ""), details)


def _usage(error: BaseException) -> Failure | None:
    """What click complains of: complaints: they quote what was typed, never a file's content."""
    format_message: Callable[[], str] | None = getattr(error, "format_message", None)
    if not _is(error, "ClickException") or format_message is None:
        return None
    context = getattr(error, "ctx", None)
    advice = f"See {context.command_path} --help." if context is not None else "See --help."
    return Failure(ExitCode.USAGE, "UsageError", format_message(), advice)


def _locked(error: BaseException) -> Failure | None:
    text = str(error) if _is(error, "IOException", "CatalogException") else ""
    if "Could not set lock" not in text and "Conflicting lock" not in text:
        return None
    path, pid = re.search(r'lock on file "([^"]+)"', text), re.search(r"PID (\d+)", text)
    who = f" (process {pid[1]})" if pid else ""
    return Failure(
        ExitCode.UNEXPECTED,
        "DatabaseLocked",
        f"The DuckDB file {path[1] if path else ''} is in use by another program{who}.".replace("  ", " "),
        "DuckDB takes one writer at a time: wait for the other run, or close the notebook that has it open.",
    )


def _disk(error: BaseException) -> Failure | None:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    said = _is(error, "IOException", "OutOfMemoryException", "OperationalError", "DeltaError") and re.search(
        r"No space left on device|disk is full|Disk quota exceeded", str(error)
    )
    if not (full or said):
        return None
    return Failure(
        ExitCode.UNEXPECTED,
        "DiskFull",
        "The disk is full.",
        "Make room (or move the database and DLT_DATA_DIR elsewhere) and run again: finished parts are kept.",
    )


def _dlt(error: BaseException) -> Failure | None:
    """What dlt complains of before it begins; names of settings are shown, values never."""
    if _is(error, "ConfigFieldMissingException"):
        names = ", ".join(dict.fromkeys(_settings(getattr(error, "traces", {}))))
        return Failure(
            ExitCode.USAGE,
            "SettingMissing",
            f"A setting is missing: {names or 'dlt does not say which'}.",
            "Give it in the environment, or the same path in .dlt/secrets.toml (docs/configuration.md).",
        )
    unusable = _unusable(error)
    if unusable:
        return Failure(
            ExitCode.USAGE,
            "SettingUnusable",
            f"A setting cannot be used as it is written: {unusable}.",
            "Correct it; its value is not shown, as it may be a secret (docs/configuration.md).",
        )
    if _is(error, "MissingDependencyException"):
        return Failure(
            ExitCode.USAGE,
            "PartNotInstalled",
            "This destination needs a package that is not installed.",
            "Install the extra that carries it, e.g. pip install 'paystack-source[postgres]'.",
        )
    if _is(error, "UnknownDestinationModule", "InvalidDestinationReference"):
        return Failure(
            ExitCode.USAGE,
            "NoSuchDestination",
            "dlt knows no destination of that name.",
            "Use duckdb, postgres, filesystem, bigquery, snowflake … or one named in .dlt/config.toml.",
        )
    return None


def _warehouse(error: BaseException) -> Failure | None:
    """What a destination complains of, or its driver."""
    if _is(error, "InsufficientPrivilege"):
        return Failure(
            ExitCode.UNEXPECTED,
            "WarehouseRefused",
            "The warehouse does not let this user do what a run needs.",
            "Let it create the dataset (a schema), the one beside it named _staging, and tables in them.",
        )
    inner = getattr(error, "inner_exc", None)
    if _is(error, "DestinationConnectionError") and type(inner).__module__ in {"duckdb", "_duckdb"}:
        path = re.search(r'"([^"]+)"', str(inner))
        return Failure(
            ExitCode.UNEXPECTED,
            "WarehouseUnreachable",
            f"The DuckDB file {path[1] if path else ''} could not be opened.".replace("  ", " "),
            "Check that its folder is there and may be written, and that it is one of DuckDB's; "
            "DESTINATION__DUCKDB__CREDENTIALS names another.",
        )
    driver = type(error).__module__.partition(".")[0]
    denied = {"psycopg2": "OperationalError", "botocore": "ClientError"}.get(driver)
    # What deltalake and pyarrow say of a store: an OSError without a number.
    stores = _is(error, "DeltaError", "OSError") and re.match(r"(IO error: )?Generic \w+ error", str(error))
    if _is(error, "DestinationConnectionError") or (denied and _is(error, denied)) or stores:
        return Failure(
            ExitCode.UNEXPECTED,
            "WarehouseUnreachable",
            "The warehouse could not be reached, or lets nobody in.",
            "Check that it runs and its credentials are right; --traceback shows its own words.",
        )
    return None


def _unusable(error: BaseException) -> str:
    """Which setting of dlt's cannot be read, without its value; nothing if the error is another one."""
    if _is(error, "TomlProviderReadException"):
        return f"{' or '.join(getattr(error, 'full_paths', ()))} is no valid TOML"
    if _is(error, "InvalidNativeValue"):
        kind = getattr(getattr(error, "spec", None), "__name__", "")
        return f"{'.'.join(getattr(error, 'embedded_sections', ()))} ({kind})"
    if _is(error, "ConfigValueCannotBeCoercedException"):
        return str(getattr(error, "field_name", "") or "dlt does not say which")
    return ""


def _settings(traces: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """The environment names of missing settings, the most exact of each; where dlt looked is in `traces`."""
    for name, looked in traces.items():
        inner = [trace for entry in looked for trace in (getattr(entry, "traces", None),) if trace]
        for trace in inner:
            yield from _settings(trace)
        if not inner:
            exact = ["__".join((*entry.sections, name)).upper() for entry in looked if entry.sections]
            yield max(exact, key=len, default=name)


def _memory(error: BaseException) -> Failure | None:
    if not (isinstance(error, MemoryError) or _is(error, "OutOfMemoryException")):
        return None
    return Failure(
        ExitCode.UNEXPECTED,
        "OutOfMemory",
        "Out of memory.",
        "Close other programs and run again: finished parts are kept.",
    )


def _file(error: BaseException) -> Failure | None:
    if not isinstance(error, OSError) or error.errno is None:
        return None
    where = f"{error.filename}: " if isinstance(error.filename, str) else ""
    return Failure(
        ExitCode.UNEXPECTED,
        type(error).__name__,
        f"{where}{error.strerror or errno.errorcode.get(error.errno, 'input/output error')}.",
        "Check that the path exists, that it may be written, or that the host is reachable; then run again.",
    )


def masked_traceback(error: BaseException) -> str:
    """The traceback of `error` and its causes, without local values and without whatever looks personal."""
    return hide("".join(traceback.format_exception(error)))
