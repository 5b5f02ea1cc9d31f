"""Bulk changes from a dataframe, for notebooks and scripts: the command line's plan, journal and runner.

    shown = bulk_set_risk_action(frame, "allow", dry_run=True)   # the plan as a frame; nothing is sent
    result = bulk_set_risk_action(frame, "allow")
    result.summary, result.results, result.failed
    result.undo()

`frame` is a pandas, Arrow, polars or DuckDB frame, or a path. Runs are kept under `paystack_results/` in
the working folder, so `python pipelines/bulk.py status` shows them as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack, overload

from paystack_source.frames import BulkResult, Frame, Settings, apply_frame

if TYPE_CHECKING:
    import pandas as pd

    from paystack_source.api.models import RiskAction

__all__ = [
    "BulkResult",
    "bulk_create",
    "bulk_deactivate_authorization",
    "bulk_set_risk_action",
    "bulk_update",
    "bulk_validate",
]


@overload
def bulk_set_risk_action(
    frame: Frame,
    risk_action: RiskAction | str | None = None,
    *,
    dry_run: Literal[True],
    **settings: Unpack[Settings],
) -> pd.DataFrame: ...
@overload
def bulk_set_risk_action(
    frame: Frame,
    risk_action: RiskAction | str | None = None,
    *,
    dry_run: Literal[False] = False,
    **settings: Unpack[Settings],
) -> BulkResult: ...
def bulk_set_risk_action(
    frame: Frame,
    risk_action: RiskAction | str | None = None,
    *,
    dry_run: bool = False,
    **settings: Unpack[Settings],
) -> BulkResult | pd.DataFrame:
    """Set what Paystack does with these customers' payments.

    `frame` has `customer_code`, `email` or `id`, and a column `risk_action`, or `risk_action` is given for
    all rows: allow (whitelist), deny (blacklist), default. With `dry_run` the plan comes back as a frame
    and nothing is sent.

    Settings and errors: see `paystack_source.frames.Settings`.
    """
    return apply_frame(
        "risk-action",
        frame,
        {"risk_action": None if risk_action is None else str(risk_action)},
        settings,
        dry_run=dry_run,
    )


@overload
def bulk_update(
    frame: Frame,
    *,
    only_missing: bool = False,
    metadata: Literal["merge", "replace"] = "merge",
    dry_run: Literal[True],
    **settings: Unpack[Settings],
) -> pd.DataFrame: ...
@overload
def bulk_update(
    frame: Frame,
    *,
    only_missing: bool = False,
    metadata: Literal["merge", "replace"] = "merge",
    dry_run: Literal[False] = False,
    **settings: Unpack[Settings],
) -> BulkResult: ...
def bulk_update(
    frame: Frame,
    *,
    only_missing: bool = False,
    metadata: Literal["merge", "replace"] = "merge",
    dry_run: bool = False,
    **settings: Unpack[Settings],
) -> BulkResult | pd.DataFrame:
    """Change names, phones and metadata.

    `frame` has `customer_code`, `email` or `id`, and any of `first_name`, `last_name`, `phone`, `metadata`.
    A blank leaves the field as it is, `<clear>` empties it; `only_missing` fills blanks and never
    overwrites.

    Settings and errors: see `paystack_source.frames.Settings`.
    """
    return apply_frame(
        "update", frame, {"only_missing": only_missing, "metadata": metadata}, settings, dry_run=dry_run
    )


@overload
def bulk_create(frame: Frame, *, dry_run: Literal[True], **settings: Unpack[Settings]) -> pd.DataFrame: ...
@overload
def bulk_create(
    frame: Frame, *, dry_run: Literal[False] = False, **settings: Unpack[Settings]
) -> BulkResult: ...
def bulk_create(
    frame: Frame, *, dry_run: bool = False, **settings: Unpack[Settings]
) -> BulkResult | pd.DataFrame:
    """Create customers. `frame` has `email` and any of `first_name`, `last_name`, `phone`, `metadata`.

    A row whose answer was lost is never sent again: it is applied if the customer turns up, else unknown.

    Settings and errors: see `paystack_source.frames.Settings`.
    """
    return apply_frame("create", frame, {}, settings, dry_run=dry_run)


@overload
def bulk_validate(frame: Frame, *, dry_run: Literal[True], **settings: Unpack[Settings]) -> pd.DataFrame: ...
@overload
def bulk_validate(
    frame: Frame, *, dry_run: Literal[False] = False, **settings: Unpack[Settings]
) -> BulkResult: ...
def bulk_validate(
    frame: Frame, *, dry_run: bool = False, **settings: Unpack[Settings]
) -> BulkResult | pd.DataFrame:
    """Ask for identity checks. Rows end as `accepted_pending`: the verdict comes later.

    `frame` has `customer_code` or `email`, `first_name`, `last_name`, `country`, `bank_code`,
    `account_number`, `bvn`, the numbers as text. BVN and account number go to Paystack and rest nowhere.

    Settings and errors: see `paystack_source.frames.Settings`.
    """
    return apply_frame("validate", frame, {}, settings, dry_run=dry_run)


@overload
def bulk_deactivate_authorization(
    frame: Frame, *, dry_run: Literal[True], **settings: Unpack[Settings]
) -> pd.DataFrame: ...
@overload
def bulk_deactivate_authorization(
    frame: Frame, *, dry_run: Literal[False] = False, **settings: Unpack[Settings]
) -> BulkResult: ...
def bulk_deactivate_authorization(
    frame: Frame, *, dry_run: bool = False, **settings: Unpack[Settings]
) -> BulkResult | pd.DataFrame:
    """Make saved cards and accounts unusable. It cannot be undone.

    `frame` has `authorization_code`, and `customer_code` or `email` if lost answers are to be read back.

    Settings and errors: see `paystack_source.frames.Settings`.
    """
    return apply_frame("deactivate-authorization", frame, {}, settings, dry_run=dry_run)
