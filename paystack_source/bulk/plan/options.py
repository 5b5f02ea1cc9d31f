"""How to plan: the options, and whether they can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from paystack_source.errors import ConfigError

if TYPE_CHECKING:
    from paystack_source.bulk.operations import BulkOperation


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to plan.

    `refresh`: "live" reads every touched customer from Paystack, "never" none. "auto" reads them if there is a
    copy to compare with and a minute of quota suffices; else those whose copy is old or missing, within the same
    limit. `key_mode` and `account` are taken from the client and the copy where they are not given.
    `leave_out_problems`: rows with problems are not planned; they are written into a file that can be corrected and
    planned. `switches` are those of the command line that say where: a later command about this plan needs them as
    well.
    """

    risk_action: str | None = None
    only_missing: bool = False
    metadata: Literal["merge", "replace"] = "merge"
    refresh: Literal["auto", "live", "never"] = "auto"
    sheet: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quota: float | None = None
    quota_share: float = 1.0
    key_mode: Literal["live", "test"] | None = None
    account: int | None = None
    undo_of: str | None = None
    leave_out_problems: bool = False
    switches: dict[str, bool | str] = {}


def checked(options: PlanOptions, operation: BulkOperation) -> PlanOptions:
    """The options, which from Python may be anything. Raises `ConfigError` for what they cannot be."""
    try:
        options = msgspec.convert(msgspec.structs.asdict(options), PlanOptions)
    except msgspec.ValidationError as error:
        raise ConfigError(f"An option of the plan is wrong: {error}") from None
    if options.risk_action is not None:
        column = operation.by_column.get("risk_action")
        if column is None:
            raise ConfigError(f"{operation.name} takes no risk action", advice="Leave --risk-action out.")
        said = options.risk_action.strip().lower()
        if said not in column.choices:
            raise ConfigError(
                f"There is no risk action {options.risk_action[:20]!r}",
                advice=f"Use {', '.join(column.choices)}.",
            )
        options = msgspec.structs.replace(options, risk_action=said)
    if options.only_missing and operation.name != "update":
        raise ConfigError(f"{operation.name} knows no --only-missing", advice="It is for update.")
    if options.metadata != "merge" and operation.name != "update" and options.undo_of is None:
        raise ConfigError(f"{operation.name} knows no --metadata", advice="It is for update.")
    if not 0 < options.quota_share <= 1 or (options.quota is not None and options.quota < 0):
        raise ConfigError("The share of the quota must be above 0 and at most 1, the quota not below 0")
    return options


def not_default(options: PlanOptions) -> dict[str, Any]:
    """The options that are not as they are by default."""
    values: dict[str, Any] = msgspec.to_builtins(options)
    defaults: dict[str, Any] = msgspec.to_builtins(PlanOptions())
    return {name: value for name, value in values.items() if value != defaults[name]}
