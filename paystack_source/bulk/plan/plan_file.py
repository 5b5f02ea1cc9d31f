"""A plan on disk: one Parquet file (`.plan`), the header as JSON in its metadata, sealed over every byte.

The seal is the SHA-256 of the whole file with the seal's own 64 characters read as zeros. It catches any
change after planning, by accident or by hand; it is no signature, so whoever may write the file and recompute
the hash can forge one. No secret field (BVN, account number, authorization code) is in it: those are read
again from the input.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from paystack_source.errors import EditedPlan, StalePlan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from paystack_source.bulk.input.snapshot import Snapshot

FORMAT: Final = 1
_MARK: Final = b"\x1eplan-seal\x1f"  # control characters: no JSON text can hold them
_ZEROS: Final = b"0" * 64
_CHUNK: Final = 1 << 20
_COST: Final = {"n": 2**14, "r": 8, "p": 1}  # about 50 ms and 16 MB a guess
_SALT_BYTES: Final = 16


class InputInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which input was planned.

    `digest` is what `digest_of` makes of it.
    """

    path: str | None
    digest: str
    rows: int
    format: str
    columns: list[str]
    mapping: dict[str, str]  # operation's column -> input's column
    ignored: list[str] = []
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None


class CopyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The copy that the plan was compared with; `as_of` is when it was last brought up to date (UTC)."""

    destination: str
    as_of: datetime | None
    customers: int
    account: int | None = None
    domain: str | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Every input row is exactly one of to_send, noop and folded.

    `drifted` and `unknown_old` count rows among them.
    """

    rows: int = 0
    to_send: int = 0
    noop: int = 0
    folded: int = 0
    drifted: int = 0
    unknown_old: int = 0
    requests: int = 0


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a person must confirm, why, and what to type.

    The number of rows to send (or the plan's seal).
    """

    needed: bool = False
    reasons: list[str] = []
    phrase: str = ""


class PlanHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan is about. All times are UTC."""

    format: int = FORMAT
    tool_version: str
    plan_id: str
    created_at: datetime
    operation: str
    options: dict[str, Any]
    account: int | None
    key_mode: Literal["live", "test"] | None
    key_fingerprint: str | None
    host: Literal["paystack", "loopback"] | None
    input: InputInfo
    copy: CopyInfo | None
    refreshed: int = 0  # customers read from Paystack while planning
    counts: Counts
    minutes: float
    per_minute: float
    guard: Confirmation
    warnings: list[str] = []
    undo_of: str | None = None
    seal: str = ""


class PlanRow(msgspec.Struct, frozen=True, kw_only=True):
    """One input row. `row` counts data rows from 1, `line` is where it starts in the file (or the row).

    `old` is None where nobody knows; otherwise it has the same fields as `new`. `secrets` are masked hints by
    field: the values come from `Plan.secrets`. A folded row says the same as row `same_as` and shares its
    fate.
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
    verdict: Literal["send", "noop", "folded"]
    same_as: int | None = None
    drifted: bool = False
    note: str = ""

    @property
    def body(self) -> dict[str, Any]:
        """The request's fields, without the secret ones."""
        return self.new


SCHEMA: Final = pa.schema(
    [
        ("row", pa.int64()),
        ("line", pa.int64()),
        ("key", pa.string()),
        ("customer_code", pa.string()),
        ("email", pa.string()),
        ("customer_id", pa.int64()),
        ("old", pa.string()),
        ("new", pa.string()),
        ("secrets", pa.string()),
        ("verdict", pa.string()),
        ("same_as", pa.int64()),
        ("drifted", pa.bool_()),
        ("note", pa.string()),
    ]
)


class PlanWriter:
    """Writes rows as they come, then the header and the seal, into an open file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # No Arrow schema: it would hold a second copy of the metadata, which the seal could not be written
        # into. No statistics: they would repeat customers' data in the footer.
        self._writer = pq.ParquetWriter(
            file, SCHEMA, compression="zstd", write_statistics=False, store_schema=False
        )

    def write(self, rows: pa.RecordBatch) -> None:
        """Appends rows that have the columns of `SCHEMA`."""
        self._writer.write_table(pa.Table.from_batches([rows]).cast(SCHEMA), row_group_size=65_536)

    def close(self, header: PlanHeader) -> None:
        """Writes the header, and seals."""
        text = msgspec.json.encode(msgspec.structs.replace(header, seal=""))
        self._writer.add_key_value_metadata({"plan": text, "plan_seal": _MARK + _ZEROS})
        self._writer.close()
        seal, at = _digest(self._file)
        self._file.seek(at)
        self._file.write(seal.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.is_open = False  # given up: its clean-up must not write to the closed file


def _digest(file: BinaryIO) -> tuple[str, int]:
    """The seal that fits the file, and where it stands.

    Raises `ValueError` if there is no one place for it.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 8, 0))
    footer = min(int.from_bytes(file.read(4), "little") + 8, size)
    file.seek(size - footer)
    tail = file.read(footer)
    if tail.count(_MARK) != 1:
        raise ValueError("no seal")
    at = size - footer + tail.index(_MARK) + len(_MARK)
    digest = hashlib.sha256()
    file.seek(0)
    left = at
    while left > 0 and (data := file.read(min(_CHUNK, left))):
        digest.update(data)
        left -= len(data)
    digest.update(_ZEROS)
    file.seek(at + len(_ZEROS))
    while data := file.read(_CHUNK):
        digest.update(data)
    return digest.hexdigest(), at


def _check_seal(file: BinaryIO, seal: str, at: int) -> None:
    file.seek(at)
    if file.read(len(_ZEROS)) != seal.encode():
        raise ValueError("broken seal")


def read_header(snapshot: Snapshot) -> PlanHeader:
    """The header of a plan whose seal fits.

    Raises `EditedPlan` if any byte differs from what was written, `StalePlan` for another format version.
    """
    path = snapshot.path
    with snapshot.open() as file:
        try:
            seal, at = _digest(file)
            _check_seal(file, seal, at)
            metadata: Mapping[bytes, bytes] = pq.ParquetFile(file).metadata.metadata
            version = msgspec.json.decode(metadata[b"plan"]).get("format")
            header = msgspec.json.decode(metadata[b"plan"], type=PlanHeader) if version == FORMAT else None
        except (ValueError, KeyError, OSError, pa.ArrowException, msgspec.MsgspecError) as error:
            raise EditedPlan(
                f"{path.name} was changed after it was planned, or is not a plan ({error}).",
                advice="A plan cannot be edited: change the input and plan again.",
            ) from None
    if header is None:
        raise StalePlan(
            f"{path.name} has format {version}; this version reads format {FORMAT}.", advice="Plan again."
        )
    return msgspec.structs.replace(header, seal=seal)


def read_rows(snapshot: Snapshot) -> Iterator[PlanRow]:
    """The rows in input order, a batch in memory at a time."""
    decode = msgspec.json.decode
    with snapshot.open() as file:
        for part in pq.ParquetFile(file).iter_batches(batch_size=4_096):
            for item in part.to_pylist():
                old, secrets = item["old"], item["secrets"]
                item["old"] = None if old is None else decode(old)
                item["new"] = decode(item["new"])
                item["secrets"] = {} if secrets is None else decode(secrets)
                item["note"] = item["note"] or ""
                yield PlanRow(**item)


# -- the digest of the input ---------------------------------------------------------------------------------


def digest_of(sha256: str, *, hides: bool) -> str:
    """What the plan keeps of an input with this hash: `sha256:…`, or `scrypt:salt:…` if its rows hold secrets.

    A plan of identity checks must not help anyone to guess a BVN. If all the rest of a small file is known,
    its plain hash lets a graphics card try all eleven-digit numbers in seconds.
    """
    if not hides:
        return f"sha256:{sha256}"
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt:{salt.hex()}:{_slow(sha256, salt)}"


def digest_fits(digest: str, sha256: str) -> bool:
    """Whether an input with this hash is the one that `digest` was made from."""
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
