"""What the orchestrators of this folder run: the copy of one Paystack account. Put it beside the file that imports it.

dlt is imported when something runs: schedulers parse their files again and again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dlt

ACCOUNTS = ["ng", "gh", "ke"]
"""Accounts as dlt's settings name them: the first key is SOURCES__PAYSTACK__ACCOUNTS__NG__SECRET_KEY."""


def pipeline_of(account: str) -> dlt.Pipeline:
    """A pipeline and a dataset for each account: no two of them wait for each other, and no rows are mixed."""
    import dlt

    return dlt.pipeline(
        f"paystack_{account}",
        destination=os.environ.get("PAYSTACK_DESTINATION", "postgres"),
        dataset_name=f"paystack_{account}",
    )


def copy_account(account: str, **settings: Any) -> dict[str, Any]:
    """Bring the account's copy up to date. The facts of the run are numbers and texts, for any orchestrator to show."""
    from paystack_source import NotCompleteError, paystack_source

    pipeline = pipeline_of(account)
    source = paystack_source.clone(name=f"paystack_{account}", section=f"paystack.accounts.{account}")
    pipeline.run(source(**settings))
    extract = pipeline.last_trace.last_extract_info
    steps = [step["resource_metrics"] for step in extract.metrics[extract.loads_ids[-1]]]
    found = next(step["customers"].custom_metrics for step in steps if "customers" in step)
    names = ("proven", "api_total", "warehouse_total", "requests", "rate_limited", "refresh_runs")
    facts = {"account": account} | {name: found[name] for name in names}
    if not facts["proven"]:  # it is loaded, and the next run reads again what differs
        raise NotCompleteError(f"The copy could not be proven complete: {facts}")
    return facts


def is_worth_a_retry(error: BaseException) -> bool:
    """Whether the same run may go well later: not where the key or a setting was refused."""
    from dlt.pipeline.helpers import retry_load

    return retry_load(("extract", "load"))(error)
