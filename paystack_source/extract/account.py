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
    """Whose customers are held."""

    def __init__(self, held: PresentCustomers) -> None:
        self._held = held

    @functools.cached_property
    def _accounts(self) -> Accounts:
        return self._held.accounts()

    def check(self, shown: pa.Table, total: int | None) -> None:
        """Compare whose customers are held with whose the API shows, and counts.

        Raises:
            ConfigError: They are others, or nobody is shown where some are held.

        """
        if not shown.num_rows and not total and (self._accounts or self._held.total()):
            raise ConfigError(
                "Paystack shows no customer at all for this key, and the dataset is not empty",
                advice="Check that the key is of the account whose copy this is, or use another dataset.",
            )
        whose = shown.select(["domain", "integration"]).group_by(["domain", "integration"]).aggregate([])
        here = {(row["domain"], row["integration"]) for row in whose.to_pylist()}
        if here and self._accounts and not here & self._accounts:
            theirs, ours = (_name(accounts) for accounts in (self._accounts, here))
            raise ConfigError(
                f"The dataset holds customers of {theirs}, and this key reads {ours}",
                advice="Keep each account and mode in a dataset of its own: --dataset NAME.",
            )


def _name(accounts: Accounts) -> str:
    return " and ".join(sorted(f"{domain or 'unknown'} integration {number}" for domain, number in accounts))
