"""Airflow 3: the customers of several Paystack accounts, and of one of them day by day.

Put this file and copy_account.py into the folder of the DAGs.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException
from copy_account import ACCOUNTS, copy_account, is_worth_a_retry

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
RETRIES = {"retries": 3, "retry_delay": timedelta(minutes=5), "retry_exponential_backoff": True}


def copied(account: str, **settings: Any) -> dict[str, Any]:
    """The copy of an account; a refused key fails the task at once."""
    try:
        return copy_account(account, **settings)
    except Exception as error:
        if is_worth_a_retry(error):
            raise
        raise AirflowFailException(str(error)) from error


@dag(schedule="@hourly", start_date=BEGIN, catchup=False, max_active_runs=1, default_args=RETRIES)
def paystack_customers() -> None:
    """Everybody, of each account. One mapped task for each, so a task that fails is repeated alone."""

    @task(map_index_template="{{ account }}")
    def copy(account: str) -> dict[str, Any]:
        get_current_context()["account"] = account
        return copied(account)

    copy.expand(account=ACCOUNTS)


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),  # plain "@daily" has empty intervals
    start_date=BEGIN,
    catchup=True,
    default_args=RETRIES,
)
def paystack_new_customers() -> None:
    """Customers created in the data interval. Runs that Airflow starts side by side on one disk wait for each other."""

    @task
    def copy_interval() -> dict[str, Any]:
        return copied(ACCOUNTS[0], allow_external_schedulers=True, refresh_budget=0)

    copy_interval()


paystack_customers()
paystack_new_customers()
