"""Dagster: the customers of several Paystack accounts, a partition for each, and a check that asks the ledger.

And those of one account day by day, so that a backfill asks for the days that it is about.

dagster dev -f dagster_defs.py
"""

from collections.abc import Iterator
from typing import Any

from copy_account import ACCOUNTS, copy_account, is_worth_a_retry, pipeline_of
from dagster import (
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    Backoff,
    DailyPartitionsDefinition,
    Definitions,
    Failure,
    MaterializeResult,
    RetryPolicy,
    RunRequest,
    StaticPartitionsDefinition,
    asset,
    define_asset_job,
    schedule,
)

LAST_RUN = """
select count(*) as windows, sum(case when proven then 0 else 1 end) as unproven, max(verified_at) as verified_at
from ledger where run_id = (select run_id from ledger order by verified_at desc limit 1)
"""

RETRIES = RetryPolicy(max_retries=3, delay=300, backoff=Backoff.EXPONENTIAL)


def copied(account: str, **settings: Any) -> dict[str, Any]:
    """The copy of an account; a refused key is not tried again."""
    try:
        return copy_account(account, **settings)
    except Exception as error:
        raise Failure(str(error), allow_retries=is_worth_a_retry(error)) from error


@asset(
    partitions_def=StaticPartitionsDefinition(ACCOUNTS),
    check_specs=[AssetCheckSpec("proven_complete", asset="paystack_customers")],
    retry_policy=RETRIES,
)
def paystack_customers(context: AssetExecutionContext) -> MaterializeResult:
    """Everybody of one account."""
    facts = copied(context.partition_key)
    return MaterializeResult(metadata=facts, check_results=[proven_complete(context.partition_key)])


@asset(partitions_def=DailyPartitionsDefinition(start_date="2026-01-01"), retry_policy=RETRIES)
def paystack_new_customers(context: AssetExecutionContext) -> MaterializeResult:
    """Customers created on the day. Days that a backfill starts side by side on one disk wait for each other."""
    day = context.partition_time_window
    return MaterializeResult(metadata=copied(ACCOUNTS[0], start=day.start, end=day.end, refresh_budget=0))


def proven_complete(account: str) -> AssetCheckResult:
    """Whether each window of the last run is proven, as the ledger in the destination says."""
    windows, unproven, verified_at = pipeline_of(account).dataset()(LAST_RUN).fetchone()
    return AssetCheckResult(
        passed=windows > 0 and not unproven,
        check_name="proven_complete",
        metadata={"windows": windows, "unproven": unproven, "verified_at": str(verified_at)},
    )


job = define_asset_job("paystack_customers_job", [paystack_customers])


@schedule(job=job, cron_schedule="5 * * * *")
def each_hour() -> Iterator[RunRequest]:
    """A run for each account."""
    for account in ACCOUNTS:
        yield RunRequest(run_key=None, partition_key=account)


defs = Definitions(assets=[paystack_customers, paystack_new_customers], jobs=[job], schedules=[each_hour])
