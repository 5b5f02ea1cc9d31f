"""Explains an exception to the user: with one message, one advice and one exit code. Pure.

`explain(error)` searches the chain of causes (dlt wraps every error of a step) and explains the first known one,
in this order: an interruption, an error of this package (`paystack_source.errors`), a usage error from click, an error
of dlt, DuckDB, a driver or the system that `FOREIGN` lists, any other `OSError`. Of an unknown exception it shows only
the type, because its text may hold customer data.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from paystack_source.api.privacy import hide
from paystack_source.errors import ExitCode, PaystackSourceError


@dataclass(frozen=True)
class Failure:
    """An explained exception. `error` is a stable name for scripts; `advice` is what to do next."""

    exit_code: int
    error: str
    message: str
    advice: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    is_known: bool = True
    """Whether the error is one that we have a message for."""

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
    """Explain `error`, or the first known error in its chain of causes."""
    chain = list(_chain(error))
    interrupted = _interrupted(chain)
    if interrupted is not None:
        return interrupted
    for reader in (_ours, _usage, *FOREIGN, _file):
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
        is_known=False,
    )


def raise_interrupt(error: BaseException) -> None:
    """Raise `KeyboardInterrupt` if one caused `error`: dlt and DuckDB turn it into an ordinary exception."""
    if explain(error).exit_code == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, outermost first, without repetition. dlt has its cause in `.exception`."""
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
    """Whether `error` is of a class with one of these names. So dlt and DuckDB need not be imported."""
    return any(cls.__name__ in names for cls in type(error).__mro__)


def _interrupted(chain: Sequence[BaseException]) -> Failure | None:
    """An interruption in the chain. Of several, the innermost with advice is used: its advice is the most exact."""
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
        getattr(stop, "advice", "") or "Nothing is lost: run the same command again. What was loaded is kept."
    )
    message = getattr(stop, "message", "") or "Interrupted."
    return Failure(ExitCode.INTERRUPTED, "Interrupted", message, advice, dict(getattr(stop, "details", {})))


def _ours(error: BaseException) -> Failure | None:
    """Errors of this package. They have their message, advice and exit code."""
    if not isinstance(error, PaystackSourceError):
        return None
    return Failure(error.exit_code, type(error).__name__, error.message, error.advice, error.details)


def _usage(error: BaseException) -> Failure | None:
    """Usage errors from click. They quote the command line, never file content."""
    format_message: Callable[[], str] | None = getattr(error, "format_message", None)
    if not _is(error, "ClickException") or format_message is None:
        return None
    context = getattr(error, "ctx", None)
    advice = f"See {context.command_path} --help." if context is not None else "See --help."
    return Failure(ExitCode.USAGE, "UsageError", format_message(), advice)


_EXTRAS: Final = {
    "aiohttp": "sandbox",
    "python_calamine": "excel",
    "psycopg2": "postgres",
    "adbc_driver_postgresql": "postgres",
    "deltalake": "delta",
    "pyiceberg": "iceberg",
    "s3fs": "s3",
    "matplotlib": "notebook",
    "phonenumbers": "notebook",
}
"""By package, the extra of this project that installs it."""


@dataclass(frozen=True)
class Foreign:
    """An error of another library. `match` returns None for any other error, else the text for `{}` in `message`."""

    error: str
    exit_code: ExitCode
    match: Callable[[BaseException], str | None]
    message: str
    advice: str

    def __call__(self, error: BaseException) -> Failure | None:
        found = self.match(error)
        if found is None:
            return None
        return Failure(self.exit_code, self.error, self.message.format(found), self.advice)


def _named(*names: str) -> Callable[[BaseException], str | None]:
    """Matches errors of a class with one of these names; the text is the error's own."""
    return lambda error: str(error) if _is(error, *names) else None


def _locked(error: BaseException) -> str | None:
    known = _is(error, "IOException", "CatalogException", "ConnectionException", "TransactionException")
    text = str(error) if known else ""
    if "Transaction conflict" in text:
        return ": an open transaction of this program has changed a table of the copy"
    if "different configuration" in text:
        return " is open in this program with other settings, such as read_only"
    if "Could not set lock" not in text and "Conflicting lock" not in text:
        return None
    path, pid = re.search(r'lock on file "([^"]+)"', text), re.search(r"PID (\d+)", text)
    return (
        (f" {path[1]}" if path else "")
        + " is in use by another program"
        + (f" (process {pid[1]})" if pid else "")
    )


def _sql_codes(error: BaseException) -> set[object]:
    """The SQLSTATE of an error of PostgreSQL, as psycopg2 and ADBC call it."""
    return {getattr(error, name, None) for name in ("pgcode", "sqlstate")}


def _disk_full(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ""
    if "53100" in _sql_codes(error):  # whose text is in the database's language
        return ""
    possible = _is(
        error, "IOException", "TransactionException", "OutOfMemoryException", "OperationalError", "DeltaError"
    )
    pattern = r"No space left on device|disk is full|Disk quota exceeded|File too large"
    return "" if possible and re.search(pattern, str(error)) else None


def _sqlite(error: BaseException) -> str | None:
    known = type(error).__module__ == "sqlite3" and _is(error, "OperationalError")
    return str(error) if known else None


def _not_installed(error: BaseException) -> str | None:
    if (
        not isinstance(error, ModuleNotFoundError)
        or not error.name
        or error.name.startswith("paystack_source")
    ):
        return None
    package = error.name.partition(".")[0]
    extra = _EXTRAS.get(package)
    return f"{package}: pip install 'paystack-source{f'[{extra}]' if extra else ''}'"


def _missing_dependency(error: BaseException) -> str | None:
    """What pip has to install: an extra of this project, or else what dlt names."""
    if not _is(error, "MissingDependencyException"):
        return None
    named = [str(each) for each in getattr(error, "dependencies", ())] or ["dlt[NAME]"]
    extras = {each: each.partition("[")[2].rstrip("]") for each in named}
    ours = set(_EXTRAS.values())
    return " ".join(
        f"'paystack-source[{extras[each]}]'" if extras[each] in ours else f"'{each}'" for each in named
    )


def _missing(error: BaseException) -> str | None:
    if not _is(error, "ConfigFieldMissingException"):
        return None
    names = dict.fromkeys(_missing_variables(getattr(error, "traces", {})))
    return ", ".join(names) or "dlt does not say which"


def _timed_out(error: BaseException) -> str | None:
    return "" if _sql_codes(error) & {"57014", "55P03", "40001", "40P01"} else None


def _ran_out(error: BaseException) -> str | None:
    codes = _sql_codes(error)
    if "53400" in codes:
        return "the room that a limit of its own allows, such as temp_file_limit"
    return "memory" if codes & {"53000", "53200"} else None


def _constraint(error: BaseException) -> str | None:
    """The class of an error of the database about a rule of a table; its text has values of rows."""
    refused = _is(error, "IntegrityError", "ConstraintException", "StringDataRightTruncation")
    truncated = _is(error, "FeatureNotSupported") and "foreign key" in str(error)
    return type(error).__name__ if refused or truncated else None


def _duckdb_file(error: BaseException) -> str | None:
    inner = getattr(error, "inner_exc", None) if _is(error, "DestinationConnectionError") else error
    if type(inner).__module__ not in {"duckdb", "_duckdb"}:
        return None
    if inner is error and "Cannot open file" not in str(error):  # of a query of ours
        return None
    path = re.search(r'"([^"]+)"', str(inner))
    return f" {path[1]}" if path else ""


_CAUSES = (
    ("password authentication failed", ": wrong user or password"),
    (r'(database|role) "[^"]*" does not exist', ": no such database or user"),
    ("could not translate host name", ": its host name cannot be resolved"),
    ("Connection refused", ": nothing answers at its address"),
    ("too many (clients|connections)|remaining connection slots", ": it takes no more connections now"),
    ("closed the connection|terminating connection|has been closed", ": the connection was lost"),
)
"""Causes that are shown, by a pattern of the driver's text. The text itself may name a user or a password."""


def _unreachable(error: BaseException) -> str | None:
    module = type(error).__module__.partition(".")[0]
    cause = next((shown for pattern, shown in _CAUSES if re.search(pattern, str(error))), "")
    if _is(error, "DestinationConnectionError") or module in {"aiohttp", "botocore"}:  # those of s3fs
        return cause
    if module == "psycopg2":
        return cause if _is(error, "OperationalError") else None
    # deltalake, pyarrow and DuckDB, which reads files with them, have only a text for a store that cannot be reached.
    text = str(error) if _is(error, "DeltaError", "OSError", "InvalidInputException") else ""
    return "" if re.search(r"Generic \w+ error|Could not connect to the endpoint", text) else None


_UNUSABLE: Final = {
    "InvalidInMemoryDuckdbCredentials": "the DuckDB file: a copy in memory would be lost at the end",
    "TableIdentifiersFrozen": "schema.naming, as the tables were made with another one: restore it, or load elsewhere",
}


def _unusable(error: BaseException) -> str | None:
    """The name of a dlt setting that cannot be read, without its value; None for any other error."""
    for name, shown in _UNUSABLE.items():
        if _is(error, name):
            return shown
    if _is(error, "TomlProviderReadException"):
        return f"{' or '.join(getattr(error, 'full_paths', ()))} is no valid TOML"
    if _is(error, "InvalidNativeValue"):
        kind = getattr(getattr(error, "spec", None), "__name__", "")
        return f"{'.'.join(getattr(error, 'embedded_sections', ()))} ({kind})"
    if _is(error, "ValueNotSecretException"):
        return (
            f"{getattr(error, 'key', 'a secret')} is in config.toml, and dlt reads it from secrets.toml only"
        )
    if _is(error, "ConfigValueCannotBeCoercedException"):
        return str(getattr(error, "field_name", "") or "dlt does not say which")
    level = isinstance(error, ValueError) and str(error).startswith("Unknown level: ")  # from `logging`
    return "runtime.log_level, one of DEBUG, INFO, WARNING, ERROR and CRITICAL" if level else None


def _missing_variables(traces: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """The environment variable of each missing setting, with the longest path; `traces` lists where dlt looked."""
    for name, looked in traces.items():
        inner = [trace for entry in looked for trace in (getattr(entry, "traces", None),) if trace]
        for trace in inner:
            yield from _missing_variables(trace)
        if not inner:
            exact = ["__".join((*entry.sections, name)).upper() for entry in looked if entry.sections]
            yield max(exact, key=len, default=name)


FOREIGN: Final = (
    Foreign(
        "DatabaseLocked", ExitCode.UNEXPECTED, _locked, "The DuckDB file{}.",
        "DuckDB takes one writer at a time: wait for the other run, or close the connection or the notebook that has "
        "it open.",
    ),
    Foreign(
        "DiskFull", ExitCode.UNEXPECTED, _disk_full, "The disk is full, or a limit of file sizes is reached.",
        "Make room (or move the database and DLT_DATA_DIR elsewhere) and run again: finished parts are kept.",
    ),
    Foreign(
        "SettingMissing", ExitCode.USAGE, _missing, "A setting is missing: {}.",
        "Give it in the environment, or in .dlt/secrets.toml, where A__B__C is c under [a.b] (docs/destinations.md).",
    ),
    Foreign(
        "SettingUnusable", ExitCode.USAGE, _unusable, "A setting cannot be used as it is written: {}.",
        "Correct it; its value is not shown, as it may be a secret (docs/destinations.md, docs/configuration.md).",
    ),
    Foreign(
        "PartNotInstalled", ExitCode.USAGE, _missing_dependency,
        "This destination needs a package that is not installed: pip install {}",
        "Or activate the environment that has it.",
    ),
    Foreign(
        "PartNotInstalled", ExitCode.USAGE, _not_installed, "A package is not installed: {}",
        "Or activate the environment that has it.",
    ),
    Foreign(
        "NoSuchDestination", ExitCode.USAGE, _named("UnknownDestinationModule", "InvalidDestinationReference"),
        "dlt has no destination of that name.",
        "Use duckdb, postgres, filesystem, bigquery, snowflake … or one named in .dlt/config.toml.",
    ),
    Foreign(
        "WarehouseRefused", ExitCode.UNEXPECTED, _named("InsufficientPrivilege", "ReadOnlySqlTransaction"),
        "The warehouse user lacks a permission that a run needs.",
        "Allow it to create the dataset (a schema), the schema with _staging after its name, and tables in both; "
        "a replica cannot be written to.",
    ),
    Foreign(
        "WarehouseConstraint", ExitCode.UNEXPECTED, _constraint, "A rule of a table refuses the load: {}.",
        "A load deletes rows and inserts them again. If somebody added foreign keys, unique indexes, checks, lengths "
        "or NOT NULL to the tables of the copy, drop them, and run again: finished parts are kept.",
    ),
    Foreign(
        "WarehouseTimeout", ExitCode.UNEXPECTED, _timed_out,
        "The database ended a statement at its own time limit or because of another program's lock, or somebody "
        "cancelled it.",
        "Raise statement_timeout or lock_timeout for this user, or wait until the tables are unlocked, and run again: "
        "finished parts are kept.",
    ),
    Foreign(
        "WarehouseLimit", ExitCode.UNEXPECTED, _ran_out, "The database ran out of {}.",
        "Raise the limit for this user, or wait until the database has less to do, and run again: finished parts are "
        "kept.",
    ),
    Foreign(
        "WarehouseUnreachable", ExitCode.UNEXPECTED, _duckdb_file, "The DuckDB file{} could not be opened.",
        "Check that its folder exists, that this user may write both, and that the file is a DuckDB database; "
        "or name another file in DESTINATION__DUCKDB__CREDENTIALS.",
    ),
    Foreign(
        "WarehouseUnreachable", ExitCode.UNEXPECTED, _unreachable,
        "The warehouse could not be reached, or refused the login{}.",
        "Check that it runs and that the credentials are right; --traceback shows its own message.",
    ),
    Foreign(
        "OutOfMemory", ExitCode.UNEXPECTED, _named("MemoryError", "OutOfMemoryException"), "Out of memory.",
        "Close other programs and run again: finished parts are kept.",
    ),
    Foreign(
        "SandboxUnusable", ExitCode.UNEXPECTED, _named("StateUnusableError"), "{}.",
        "If another command with --sandbox runs, wait for it; or name another file in PAYSTACK_SANDBOX_STATE.",
    ),
    Foreign(
        "JournalUnusable", ExitCode.UNEXPECTED, _sqlite,
        "An SQLite file, such as the journal of a run, cannot be used: {}.",
        "Check the disk, its limits, and who may write the run's folder and its files; then resume the run.",
    ),
)  # fmt: skip
"""Known errors of other libraries, in the order in which they are tried."""


def _file(error: BaseException) -> Failure | None:
    if not isinstance(error, OSError) or error.errno is None:
        return None
    where = f"{error.filename}: " if isinstance(error.filename, str) else ""
    check = "that the path exists, that it may be written, or that the host is reachable"
    if isinstance(error, FileExistsError):  # dlt makes the folders of a dataset itself
        check = "what is there, and remove it if nobody needs it"
    return Failure(
        ExitCode.UNEXPECTED,
        type(error).__name__,
        f"{where}{error.strerror or errno.errorcode.get(error.errno, 'input/output error')}.",
        f"Check {check}; then run again.",
    )


def masked_traceback(error: BaseException) -> str:
    """The traceback of `error` and its causes, without local variables and anything that looks personal."""
    return hide("".join(traceback.format_exception(error)))
