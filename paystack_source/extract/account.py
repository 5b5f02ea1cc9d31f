"""Refuses a dataset with customers of two accounts or modes, and an empty answer where customers are held."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from paystack_source.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from paystack_source.extract.ledger import PresentCustomers

Account = tuple[str | None, int | None]
"""Domain (test or live) and integration."""

Accounts = set[Account]


def check_account(held: PresentCustomers, shown: pa.Table, total: int | None, wanted: int | None) -> None:
    """Compare the accounts of the held customers with those of customers that the API shows, and with the one `wanted`.

    Raises `ConfigError` if they differ, if the dataset holds customers of two accounts, or if the API shows nobody and
    its total is 0 or None although customers are held.
    """
    ours = held.accounts()
    require_one_account(ours, wanted)
    if not shown.num_rows and not total and (ours or held.total()):
        raise ConfigError(
            "Paystack shows no customer at all for this key, and the dataset is not empty",
            advice="Check that the key is of the account whose copy this is, or use another dataset.",
        )
    require_account(shown, wanted)
    here = whose(shown)
    known = {each for each in ours if None not in each} or ours
    if here and ours and not any(_may_be_one(*pair) for pair in itertools.product(here, known)):
        raise ConfigError(
            f"The dataset holds customers of {_name(ours)}, and this key reads {_name(here)}",
            advice="Keep each account and mode in a dataset of its own: --dataset NAME.",
        )


def _may_be_one(here: Account, held: Account) -> bool:
    """Whether both are the same account, as far as it is known: one of the columns may have been dropped."""
    return any(held) and all(ours in {None, theirs} for theirs, ours in zip(here, held, strict=True))


def whose(rows: pa.Table) -> Accounts:
    """The accounts of these rows."""
    found = rows.select(["domain", "integration"]).group_by(["domain", "integration"]).aggregate([])
    return {(row["domain"], row["integration"]) for row in found.to_pylist()}


def require_account(rows: pa.Table, wanted: int | None) -> None:
    """Raise `ConfigError` if an account is wanted, and one of these rows is of another."""
    if wanted is None:
        return
    accounts = whose(rows)
    if {number for _, number in accounts} - {wanted, None}:
        raise ConfigError(
            f"The key reads customers of {_name(accounts)}, and account={wanted} was asked for",
            advice="Use the key of that account, or correct the number.",
        )


def require_one_account(held: Accounts, wanted: int | None = None) -> None:
    """Raise `ConfigError` if the dataset has rows of several accounts or modes, or of another account than `wanted`."""
    known = {each for each in held if None not in each}
    if len(known) > 1:
        raise ConfigError(
            f"The dataset holds customers of {_name(known)}: such a copy cannot be proved complete",
            advice="Copy each account and mode into a dataset of its own: --dataset NAME.",
        )
    if wanted is not None and {number for _, number in held} - {wanted, None}:
        raise ConfigError(
            f"The dataset holds customers of {_name(held)}, and account={wanted} was asked for",
            advice="Use another dataset: --dataset NAME, or correct the number.",
        )


def _name(accounts: Accounts) -> str:
    return " and ".join(sorted(f"{domain or 'unknown'} integration {number}" for domain, number in accounts))
