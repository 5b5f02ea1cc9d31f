"""Prefect 3: the customers of several Paystack accounts, side by side.

python prefect_flow.py
"""

from __future__ import annotations

from typing import Any

from copy_account import ACCOUNTS, copy_account, is_worth_a_retry
from prefect import flow, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task


def may_go_well(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether Prefect is to repeat a task that failed."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, Exception) and is_worth_a_retry(error)


@task(
    task_run_name="copy {account}",
    retries=3,
    retry_delay_seconds=[60, 300, 900],
    retry_condition_fn=may_go_well,
)
def copy(account: str) -> dict[str, Any]:
    """Everybody of one account."""
    return copy_account(account)


@flow
def paystack_customers(accounts: list[str] = ACCOUNTS) -> list[dict[str, Any]]:
    """Every account. The flow fails if one of them does, after all have been tried."""
    return copy.map(accounts).result()


if __name__ == "__main__":
    print(paystack_customers())
