"""Refuses to mix accounts, or live and test data, in one dataset, and to take an empty account for the one held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paystack_source.api.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

Accounts = set[tuple[str | None, int | None]]
"""Domain (test or live) and integration."""


def check_account(held: Accounts, shown: pa.Table) -> None:
    """Compare whose customers are held with whose the API shows.

    Raises:
        ConfigError: They are others.

    """
    whose = shown.select(["domain", "integration"]).group_by(["domain", "integration"]).aggregate([])
    here = {(row["domain"], row["integration"]) for row in whose.to_pylist()}
    if here and held and not here & held:
        theirs, ours = (_name(accounts) for accounts in (held, here))
        raise ConfigError(
            f"The dataset holds customers of {theirs}, and this key reads {ours}",
            advice="Keep each account and mode in a dataset of its own: --dataset NAME.",
        )


def nobody() -> ConfigError:
    """The API shows no customer, and some are held."""
    return ConfigError(
        "Paystack shows no customer at all for this key, and the dataset is not empty",
        advice="Check that the key is of the account whose copy this is, or use another dataset.",
    )


def _name(accounts: Accounts) -> str:
    return " and ".join(sorted(f"{domain or 'unknown'} integration {number}" for domain, number in accounts))
