"""A plan: the rows to send, their customers, and the old values. It is one Parquet file (`.plan`) with a seal.

The header is JSON in the file's metadata. The seal is the SHA-256 of the whole file with the seal's own 64 characters
read as zeros. It shows every later change, by accident or by hand. It is not a signature: anyone who can write the file
can compute a new seal. The file has no secret value (BVN, account number, authorization code); these are read again
from the input. `planner.make_plan` makes a plan.
"""

from __future__ import annotations

import hashlib
import hmac
import mmap
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from paystack_source.api.client import PaystackClient
from paystack_source.bulk.input.files import InputTable, open_table
from paystack_source.bulk.input.snapshot import FileSnapshot
from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.plan.tally import Confirmation, Tally
from paystack_source.errors import ConfigError, EditedPlan, InputChanged, StalePlan, WrongAccount
from paystack_source.private_files import path_of

PLAN_FORMAT: Final = 2
MAX_AGE: Final = timedelta(hours=24)
"""The greatest age of a plan that is applied."""
MAX_AGE_RESUMED: Final = timedelta(days=7)
"""The greatest age of a plan whose run is resumed."""
LEFT_OUT: Final = "left out: something is wrong with it"
"""The note of a row with a problem that was left out."""
RUN_PLAN: Final = "plan.plan"
"""The plan in a run's folder."""
RUN_JOURNAL: Final = "journal.sqlite"
"""The journal in a run's folder."""
_OLD_FORMAT: Final = 1  # the same format, with "folded" for "duplicate"
_MARK: Final = b"\x1eplan-seal\x1f"  # control characters, which JSON text cannot contain
_ZEROS: Final = b"0" * 64
_COST: Final = {"n": 2**14, "r": 8, "p": 1}  # of scrypt: about 50 ms and 16 MB a guess
_CLOCK_SKEW: Final = timedelta(minutes=5)  # clocks of two machines differ


class InputInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The input that was planned. `digest` is the result of `digest_of`."""

    path: str | None
    digest: str
    format: str
    columns: list[str]
    mapping: dict[str, str]  # operation's column -> input's column
    ignored: list[str] = []
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None


class CopyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The copy that the plan was compared with; `as_of` is the newest `_last_seen_at` in it, in UTC."""

    destination: str
    as_of: datetime | None
    customers: int
    account: int | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of rows. Each input row counts in exactly one of `to_send`, `noop`, `duplicates` and `left_out`.

    `drifted` and `unknown_old` count some of these rows again.
    """

    rows: int = 0
    to_send: int = 0
    noop: int = 0
    duplicates: int = 0
    left_out: int = 0
    drifted: int = 0
    unknown_old: int = 0
    requests: int = 0


class PlanHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The header of a plan. All times are in UTC."""

    format: int = PLAN_FORMAT
    tool_version: str
    plan_id: str
    created_at: datetime
    operation: str
    options: dict[str, Any]
    account: int | None
    key_mode: Literal["live", "test"]
    key_fingerprint: str
    host: Literal["paystack", "loopback"]
    input: InputInfo
    copy: CopyInfo | None
    refreshed: int = 0  # customers read from Paystack while planning
    customers: int | None = None  # the account's number of customers
    counts: Counts
    minutes: float
    per_minute: float
    guard: Confirmation
    warnings: list[str] = []
    undo_of: str | None = None
    seal: str = ""


class PlanRow(msgspec.Struct, frozen=True, kw_only=True):
    """One input row. `row` counts data rows from 1; `line` is the line of the file on which it starts, else the row.

    `old` is None if it is unknown; otherwise it has the fields of `new`. `secrets` are masked hints by field; the
    values come from `Plan.secrets`. A duplicate sets the same values as row `same_as`, and has that row's outcome.
    """

    row: int
    line: int
    key: str
    customer_code: str | None
    email: str | None
    customer_id: int | None
    old: dict[str, Any] | None
    new: dict[str, Any]
    secrets: dict[str, str] = {}
    verdict: Literal["send", "noop", "duplicate"]
    same_as: int | None = None
    drifted: bool = False
    note: str = ""


_KINDS: Final = {int: pa.int64(), int | None: pa.int64(), bool: pa.bool_()}
ROW_SCHEMA: Final = pa.schema(
    [(field.name, _KINDS.get(field.type, pa.string())) for field in msgspec.structs.fields(PlanRow)]
)
"""The fields of `PlanRow`; `old`, `new` and `secrets` are JSON."""


class Plan:
    """A sealed plan: its `header`, and its rows, which `rows()` streams in input order.

    Both come from a snapshot of the file, so the rows that were checked and shown are sent, even if the file at `path`
    changes.
    """

    def __init__(self, snapshot: FileSnapshot, table: InputTable | None = None) -> None:
        """`table` is the input, if it is open already. Raises `EditedPlan` or `StalePlan`."""
        self.path = snapshot.path
        self.header = _read_header(snapshot)
        self.snapshot = snapshot
        self._table = table

    @classmethod
    def open(cls, path: str | Path) -> Plan:
        """Opens a plan and checks its seal. Raises `EditedPlan`, `StalePlan`, or `FileNotFoundError`."""
        try:
            snapshot = FileSnapshot.of(path)
        except ConfigError as error:
            raise EditedPlan(error.message, advice="Give the .plan file that `plan` wrote.") from None
        return cls(snapshot)

    @property
    def secret_columns(self) -> dict[str, str]:
        """The input's column of each secret field."""
        mapping = self.header.input.mapping
        secret = BULK_OPERATIONS[self.header.operation].secret_fields
        return {name: mapping[name] for name in secret if name in mapping}

    @cached_property
    def tally(self) -> Tally:
        """What the rows change, counted from the rows, because the header could be edited."""
        made = Tally(BULK_OPERATIONS[self.header.operation])
        for batch in self.batches():
            made.add_batch(batch)
        return made

    def rows(self, *, sent: bool | None = None) -> Iterator[PlanRow]:
        """The rows in input order, one batch in memory at a time. `sent` True: only rows to send; False: the others."""
        decode = msgspec.json.decode
        for batch in self.batches():
            to_send = pc.equal(batch["verdict"], "send")
            part = batch if sent is None else batch.filter(to_send if sent else pc.invert(to_send))
            for item in part.to_pylist():
                item["old"] = None if item["old"] is None else decode(item["old"])
                item["new"] = decode(item["new"])
                item["secrets"] = decode(item["secrets"] or "{}")
                item["note"] = item["note"] or ""
                item["verdict"] = item["verdict"].replace("folded", "duplicate")
                yield PlanRow(**item)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in input order as batches with the columns of `ROW_SCHEMA`."""
        with self.snapshot.open() as file:
            yield from pq.ParquetFile(file).iter_batches(batch_size=4_096)

    def input(self, source: Any = None) -> InputTable:  # noqa: ANN401  # any frame
        """The input that was planned: `source`, or the planned file if `source` is None.

        It is read once; later calls return the same table. Raises `InputChanged` if it is missing or has changed.
        """
        about = self.header.input
        if self._table is not None:
            return self._table
        if source is None and about.path is None:
            raise InputChanged(
                "This plan was made from a frame or from standard input, which is not available now",
                advice="Give the same rows again: in Python as source=, on the command line as --input FILE.",
            )
        try:
            given = FileSnapshot.of(path_of(about.path or "")) if source is None else source
        except FileNotFoundError:
            raise InputChanged(
                "The input file of this plan no longer exists", advice="Put it back, or plan again."
            ) from None
        table = open_table(given, encoding=about.encoding, delimiter=about.delimiter, sheet=about.sheet)
        if table.columns != about.columns or not digest_fits(about.digest, table.sha256()):
            raise InputChanged(
                f"{table.name} was changed since it was planned",
                advice="Put the file back as it was, or plan again.",
            )
        self._table = table
        return table

    def secrets(self, source: Any = None) -> Callable[[PlanRow], dict[str, str]]:  # noqa: ANN401  # any frame
        """Read the secret fields of the `input` into memory; returns a function from a row to its secret values.

        Without secret fields only the result files need the input, so it may be missing.
        """
        about = self.header.input
        names = self.secret_columns
        if not names:
            with nullcontext() if source is not None else suppress(OSError, ConfigError):
                self.input(source)
            return lambda _row: {}
        held: dict[str, list[pa.Array]] = {name: [] for name in names}
        for batch in self.input(source).batches():
            for name, parts in held.items():
                parts.append(pc.utf8_trim_whitespace(batch.columns[about.columns.index(names[name])]))
        columns = {name: pa.chunked_array(parts, pa.string()) for name, parts in held.items()}
        return lambda row: {name: text for name in columns if (text := columns[name][row.row - 1].as_py())}

    def check_applicable(
        self, now: datetime, client: PaystackClient, *, account: int | None, max_age: timedelta
    ) -> None:
        """Raise `StalePlan` or `WrongAccount` unless the plan may be applied now, by this client.

        `now` must have a time zone. `account` is the client's; None if it has no customers to show its number. The
        key's fingerprint is compared only if the client's or the plan's account is None, because a key may have been
        replaced since.
        """
        header = self.header
        age = now - header.created_at
        if age > max_age or age < -_CLOCK_SKEW:
            when = f"{age.total_seconds() / 3600:.1f} hours old" if age > max_age else "from the future"
            raise StalePlan(
                f"{self.path.name} is {when}; customers may have changed since", advice="Plan again."
            )
        if header.key_mode != client.mode:
            raise WrongAccount(
                f"The plan was made for {header.key_mode} mode, the key is a {client.mode} key",
                advice="Use the other key, or plan again with this one.",
            )
        if header.host != (host := host_of(client)):
            hosts = {"paystack": "Paystack", "loopback": "a local sandbox"}
            raise WrongAccount(
                f"The plan was made against {hosts[header.host]}, not {hosts[host]}",
                advice="Plan again.",
            )
        if account is not None and header.account is not None:
            if account != header.account:
                name = header.options.get("switches", {}).get("account_name")
                named = f"Give its account, --account {name}" if name else "Use the key of that account"
                raise WrongAccount(
                    "The plan was made for another Paystack account",
                    advice=f"{named}, or plan again with this key.",
                )
        elif client.key.fingerprint != header.key_fingerprint:
            raise WrongAccount(
                "The plan was made with another key, which may be of another account",
                advice="Plan again with this key.",
            )


def write_plan(file: BinaryIO, rows: Iterable[pa.RecordBatch], header: Callable[[], PlanHeader]) -> None:
    """Write rows with the columns of `ROW_SCHEMA`, then the header and the seal. `header` is called after the rows."""
    # No Arrow schema: it would repeat the metadata, and with it the seal's place. No statistics: they would
    # repeat customers' data in the footer.
    writer = pq.ParquetWriter(
        file, ROW_SCHEMA, compression="zstd", write_statistics=False, store_schema=False
    )
    try:
        for batch in rows:
            writer.write_table(pa.Table.from_batches([batch]).cast(ROW_SCHEMA), row_group_size=65_536)
        text = msgspec.json.encode(msgspec.structs.replace(header(), seal=""))
        writer.add_key_value_metadata({"plan": text, "plan_seal": _MARK + _ZEROS})
        writer.close()
    finally:
        writer.is_open = False  # or its clean-up would write to the closed file
    file.flush()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
        seal, at = _digest(view)
    file.seek(at)
    file.write(seal.encode())
    file.flush()
    os.fsync(file.fileno())


def _digest(data: memoryview) -> tuple[str, int]:
    """Compute the seal of a plan's bytes; returns it and its offset. Raises `ValueError` unless there is one seal."""
    footer = max(len(data) - 8 - int.from_bytes(data[-8:-4], "little"), 0)
    tail = data[footer:].tobytes()
    if tail.count(_MARK) != 1:
        raise ValueError("no seal")
    at = footer + tail.index(_MARK) + len(_MARK)
    digest = hashlib.sha256(data[:at])
    digest.update(_ZEROS)
    digest.update(data[at + len(_ZEROS) :])
    return digest.hexdigest(), at


def _read_header(snapshot: FileSnapshot) -> PlanHeader:
    """The header of a plan whose seal fits.

    Raises `EditedPlan` if any byte differs from what was written, `StalePlan` for another format version.
    """
    path = snapshot.path
    try:
        data = memoryview(snapshot.data)
        seal, at = _digest(data)
        if data[at : at + len(_ZEROS)] != seal.encode():
            raise ValueError("broken seal")  # noqa: TRY301  # one message for all damaged files
        text = pq.read_metadata(snapshot.open()).metadata[b"plan"]
        version = msgspec.json.decode(text).get("format")
        header = msgspec.json.decode(text, type=PlanHeader) if version in (_OLD_FORMAT, PLAN_FORMAT) else None
    except (ValueError, KeyError, OSError, pa.ArrowException, msgspec.MsgspecError) as error:
        raise EditedPlan(
            f"{path.name} was changed after it was planned, or is not a plan ({error}).",
            advice="A plan cannot be edited: change the input and plan again.",
        ) from None
    if header is None:
        raise StalePlan(
            f"{path.name} has format {version}; this version reads format {PLAN_FORMAT}.",
            advice="Plan again.",
        )
    return msgspec.structs.replace(header, seal=seal)


def is_plan(path: Path) -> bool:
    """Whether the file is a plan that may be replaced. The plan in a run's folder may not."""
    if path.name == RUN_PLAN and path.with_name(RUN_JOURNAL).exists():
        return False
    try:
        return b"plan_seal" in (pq.read_metadata(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def host_of(client: PaystackClient) -> Literal["paystack", "loopback"]:
    """Whether the client sends to Paystack or to a sandbox on loopback."""
    return "paystack" if client.base_url.startswith("https://api.paystack.co") else "loopback"


def digest_of(sha256: str, *, hides: bool) -> str:
    """The digest for an input's SHA-256: `sha256:…`, or with `hides`, for rows with secrets, `scrypt:salt:…`.

    If all other cells of a small file are known, a graphics card can find an eleven-digit BVN from a plain hash in
    seconds.
    """
    if not hides:
        return f"sha256:{sha256}"
    salt = secrets.token_bytes(16)
    return f"scrypt:{salt.hex()}:{_slow(sha256, salt)}"


def digest_fits(digest: str, sha256: str) -> bool:
    """Whether `digest` was made from an input with this SHA-256."""
    kind, _, rest = digest.partition(":")
    if kind == "sha256":
        return hmac.compare_digest(rest, sha256)
    salt, _, kept = rest.partition(":")
    try:
        return kind == "scrypt" and hmac.compare_digest(kept, _slow(sha256, bytes.fromhex(salt)))
    except ValueError:
        return False


def _slow(sha256: str, salt: bytes) -> str:
    return hashlib.scrypt(bytes.fromhex(sha256), salt=salt, dklen=32, **_COST).hex()
