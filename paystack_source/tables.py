"""Declares tables and columns once, with their descriptions.

The Arrow schema, the hints for dlt, the comments in the database (`warehouse.comments`) and docs/tables.md derive from
a declaration. Each table is declared in the module that makes its values. The tables of bulk runs are declared here:
`bulk` makes their values, `warehouse` loads them, and neither imports the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import pyarrow as pa

Kind: TypeAlias = Literal["bigint", "text", "json", "bool", "timestamp"]
"""The type of a column, as dlt calls it. A `timestamp` has microseconds and is in UTC; `json` is kept as text."""

Pii: TypeAlias = Literal["none", "identifier", "personal"]
"""`personal` is what a person gave (name, email, phone, metadata); `identifier` stands for one person."""

TIME: Final = pa.timestamp("us", tz="UTC")

ARROW_TYPES: Final[Mapping[Kind, pa.DataType]] = {
    "bigint": pa.int64(),
    "text": pa.string(),
    "json": pa.string(),
    "bool": pa.bool_(),
    "timestamp": TIME,
}
"""The Arrow type of each of dlt's types, for every table of the package."""


NAMES: Final = frozenset(
    {"customers", "ledger", "customers_history", "customer_details", "customer_authorizations"}
    | {"write_back_rows", "write_back_runs"}
)
"""The tables of the package: what a load of them had can be read or recorded again."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    kind: Kind
    description: str
    pii: Pii = "none"
    nullable: bool = True
    """Whether it may be null. In the database only keys are NOT NULL, because an existing table cannot be changed."""
    key: str = ""
    """The key in Paystack's answers; empty if it equals the name, or if the column is not Paystack's."""
    writable: bool = False
    """Whether an update or a risk action can change it."""


LOAD_ID: Final = Column("_dlt_load_id", "text", "dlt's number of the load that wrote this row.")
"""dlt's own column. dlt adds it only if it is configured to, and forbids nulls in it. Because it is declared here,
tables can be loaded with and without that setting, and by other pipelines. `rows_to_load` fills it."""


class Table(NamedTuple):
    """One table. `columns` are the columns of our rows; dlt's load id follows them."""

    name: str
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        return arrow_schema(self.columns)

    @property
    def hints(self) -> dict[str, Any]:
        """The columns for dlt."""
        return {
            column.name: {
                "data_type": column.kind,
                "description": column.description,
                "nullable": column.name not in self.key,
            }
            for column in (*self.columns, LOAD_ID)
        }


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of these columns. All of them are nullable in Arrow."""
    return pa.schema([(column.name, ARROW_TYPES[column.kind]) for column in columns])


def filled(name: str, kind: Kind, description: str, pii: Pii = "none") -> Column:
    """A column that is never null."""
    return Column(name, kind, description, pii, nullable=False)


SETS_CUSTOMERS: Final = ("risk-action", "update", "create")
"""The bulk operations whose rows set columns of `customers`."""

WRITE_BACK_ROWS: Final = Table(
    "write_back_rows",
    "What bulk runs did: one row for each row of their input.",
    ("run_id", "row"),
    (
        filled("run_id", "text", "The run, as in write_back_runs."),
        filled("operation", "text", "What the run did: risk-action, update, create, and so on."),
        filled("row", "bigint", "The number of the row in the input, from 1."),
        filled(
            "line", "bigint", "The line of the input's file that the row begins in; its number in a frame."
        ),
        Column("customer_code", "text", "Paystack's code of the row's customer.", "identifier"),
        Column("customer_id", "bigint", "The row's customer, as in customers.", "identifier"),
        Column("email", "text", "The email address that the row names or the customer has.", "personal"),
        filled("outcome", "text", "applied, skipped_noop, accepted_pending, rejected, unknown or unsent."),
        Column(
            "code", "text", "Paystack's code of its answer, or ours of the outcome; null if there is none."
        ),
        Column("message", "text", "What Paystack said last, without customer data."),
        Column("http_status", "bigint", "The status of Paystack's last answer; null if there was none."),
        filled("sends", "bigint", "How many times a request for the row was sent."),
        Column("sent_at", "timestamp", "When a request for it was first sent, in UTC; null if none was."),
        Column("finished_at", "timestamp", "When the row's last event happened, in UTC."),
        Column("before", "json", "The values before, of the fields that the row changes.", "personal"),
        filled("after", "json", "The values that the row asks for.", "personal"),
        filled(
            "drifted", "bool", "Whether Paystack had another value than the copy when the row was planned."
        ),
        Column("secrets", "json", "Numbers of people and accounts that were sent, masked.", "personal"),
    ),
)

WRITE_BACK_RUNS: Final = Table(
    "write_back_runs",
    "The bulk runs: one row for each.",
    ("run_id",),
    (
        filled("run_id", "text", "The name of the run, and of its folder."),
        filled("operation", "text", "What the run did: risk-action, update, create, and so on."),
        Column("key_mode", "text", "The mode of the key: live or test."),
        Column("account", "bigint", "The Paystack account that was changed; null if Paystack did not say."),
        Column("who", "text", "The user of the last session by the environment (LOGNAME).", "personal"),
        Column("os_user", "text", "The user of the operating system in the last session.", "personal"),
        Column("host", "text", "The machine of the last session."),
        Column("input", "text", "The path of the input; null for a frame."),
        filled(
            "input_digest",
            "text",
            "A digest of the input's bytes: SHA-256, or salted scrypt where its rows hold secrets.",
        ),
        filled("plan_id", "text", "The plan that was applied."),
        filled("plan_seal", "text", "The seal of the plan: a SHA-256 over the whole plan file."),
        Column("undo_of", "text", "The run that this run takes back; else null."),
        filled("tool_version", "text", "The version of paystack-source that made the plan."),
        filled("planned_at", "timestamp", "When the plan was made, in UTC."),
        filled("started_at", "timestamp", "When the first session began, in UTC."),
        Column("ended_at", "timestamp", "When the last session ended, in UTC; null if it was killed."),
        Column("stopped", "text", "Why the run ended before its last row; else null."),
        filled(
            "sessions",
            "bigint",
            "How many times the run was started or resumed; 0 if it was loaded before its first session began.",
        ),
        filled("requests", "bigint", "Requests that were sent to Paystack."),
        filled("events", "bigint", "Events in the run's journal when it was loaded."),
        filled("rows", "bigint", "Rows of the input."),
        filled("applied", "bigint", "Rows that Paystack applied."),
        filled("skipped_noop", "bigint", "Rows that needed no change, or were blank or left out."),
        filled("accepted_pending", "bigint", "Rows that Paystack accepted and has not decided yet."),
        filled("rejected", "bigint", "Rows that Paystack rejected."),
        filled("unknown", "bigint", "Rows that may or may not have been applied."),
        filled("unsent", "bigint", "Rows that were certainly not applied."),
    ),
)
