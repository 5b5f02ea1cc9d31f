"""Refuses to mix accounts, or live and test data, in one dataset, and to take an empty account for the one held."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from paystack_source.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from paystack_source.extract.ledger import PresentCustomers

Accounts = set[tuple[str | None, int | None]]
"""Domain (test or live) and integration."""


class AccountGuard:
    """Whose customers are held; `wanted` is the integration that they have to be of, if that was said."""

    def __init__(self, held: PresentCustomers, wanted: int | None = None) -> None:
        self._held = held
        self._wanted = wanted

    @functools.cached_property
    def _accounts(self) -> Accounts:
        return self._held.accounts()

    def check(self, shown: pa.Table, total: int | None) -> None:
        """Compare whose customers are held with whose the API shows, and counts.

        Raises:
            ConfigError: They are others, the dataset holds customers of two accounts, or nobody is shown where some
                are held.

        """
        require_one_account(self._accounts, self._wanted)
        if not shown.num_rows and not total and (self._accounts or self._held.total()):
            raise ConfigError(
                "Paystack shows no customer at all for this key, and the dataset is not empty",
                advice="Check that the key is of the account whose copy this is, or use another dataset.",
            )
        here = whose(shown, self._wanted)
        if here and self._accounts and not here & self._accounts:
            theirs, ours = (_name(accounts) for accounts in (self._accounts, here))
            raise ConfigError(
                f"The dataset holds customers of {theirs}, and this key reads {ours}",
                advice="Keep each account and mode in a dataset of its own: --dataset NAME.",
            )


def whose(rows: pa.Table, wanted: int | None = None) -> Accounts:
    """Whose these rows are. Raises `ConfigError` if one of them is of another account than `wanted`."""
    found = rows.select(["domain", "integration"]).group_by(["domain", "integration"]).aggregate([])
    accounts = {(row["domain"], row["integration"]) for row in found.to_pylist()}
    if wanted is not None and {number for _, number in accounts} - {wanted, None}:
        raise ConfigError(
            f"The key reads customers of {_name(accounts)}, and account={wanted} was asked for",
            advice="Use the key of that account, or correct the number.",
        )
    return accounts


def require_one_account(held: Accounts, wanted: int | None = None) -> None:
    """Raise `ConfigError` if rows of the dataset are of several accounts or modes, or of another one than `wanted`."""
    known = {each for each in held if None not in each}
    if len(known) > 1:
        raise ConfigError(
            f"The dataset holds customers of {_name(known)}: nobody can prove that it is complete",
            advice="Copy each account and mode into a dataset of its own: --dataset NAME.",
        )
    if wanted is not None and {number for _, number in held} - {wanted, None}:
        raise ConfigError(
            f"The dataset holds customers of {_name(held)}, and account={wanted} was asked for",
            advice="Use another dataset: --dataset NAME, or correct the number.",
        )


def _name(accounts: Accounts) -> str:
    return " and ".join(sorted(f"{domain or 'unknown'} integration {number}" for domain, number in accounts))
