"""Refuses a dataset with customers of two accounts or modes, and an empty list if the dataset has customers."""

from __future__ import annotations

import itertools

import pyarrow as pa

from paystack_source.errors import ConfigError
from paystack_source.extract.held import PresentCustomers

Account = tuple[str | None, int | None]
"""Domain (test or live) and integration."""

Accounts = set[Account]

NAME_A_DATASET = "--dataset NAME, or dataset_name of dlt.pipeline"
"""How a dataset is named: to a command, and to dlt."""


def check_account(held: PresentCustomers, shown: pa.Table, total: int | None, wanted: int | None) -> None:
    """Compare the accounts of held customers, of the customers on a page (`shown`), and the `wanted` account.

    Raises `ConfigError` if they differ, if the dataset holds customers of two accounts, or if the page is empty with a
    total of 0 or None although customers are held.
    """
    ours = held.accounts()
    require_one_account(ours, wanted)
    if not shown.num_rows and not total and (ours or held.total()):
        raise ConfigError(
            "Paystack shows no customer at all for this key, and the dataset is not empty",
            advice="Check that the key is of the account whose copy this is, or use another dataset.",
        )
    require_account(shown, wanted)
    read = accounts_of(shown)
    complete = {each for each in ours if None not in each} or ours
    if read and ours and not any(itertools.starmap(_may_be_same, itertools.product(read, complete))):
        raise ConfigError(
            f"The dataset holds customers of {_name(ours)}, and this key reads {_name(read)}",
            advice=f"Keep each account and mode in a dataset of its own: {NAME_A_DATASET}.",
        )


def _may_be_same(shown: Account, held: Account) -> bool:
    """Whether both may be the same account. The held one may lack a column that was dropped."""
    return any(held) and all(ours in {None, theirs} for theirs, ours in zip(shown, held, strict=True))


def accounts_of(rows: pa.Table) -> Accounts:
    """The accounts of these rows."""
    found = rows.select(["domain", "integration"]).group_by(["domain", "integration"]).aggregate([])
    return {(row["domain"], row["integration"]) for row in found.to_pylist()}


def require_account(rows: pa.Table, wanted: int | None) -> None:
    """Raise `ConfigError` if a row belongs to another account than `wanted`; None allows every account."""
    if wanted is None:
        return
    accounts = accounts_of(rows)
    if {number for _, number in accounts} - {wanted, None}:
        raise ConfigError(
            f"The key reads customers of {_name(accounts)}, and account={wanted} was asked for",
            advice="Use the key of that account, or correct the number.",
        )


def require_one_account(held: Accounts, wanted: int | None = None) -> None:
    """Raise `ConfigError` if the dataset has rows of several accounts or modes, or of another account than `wanted`."""
    complete = {each for each in held if None not in each}
    if len(complete) > 1:
        raise ConfigError(
            f"The dataset holds customers of {_name(complete)}: such a copy cannot be proved complete",
            advice=f"Copy each account and mode into a dataset of its own: {NAME_A_DATASET}.",
        )
    if wanted is not None and {number for _, number in held} - {wanted, None}:
        raise ConfigError(
            f"The dataset holds customers of {_name(held)}, and account={wanted} was asked for",
            advice=f"Use another dataset ({NAME_A_DATASET}), or correct the number.",
        )


def _name(accounts: Accounts) -> str:
    return " and ".join(sorted(f"{domain or 'unknown'} integration {number}" for domain, number in accounts))
