"""The command `customers`: keeps a copy of Paystack's customers, and proves in each run that it is complete.

    python pipelines/customers.py --sandbox

See `docs/extraction.md` for the promises.
"""

from __future__ import annotations

import gc
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.core import ParameterSource

from paystack_source.cli.options import chosen_location, location, once, paystack, sharing
from paystack_source.cli.terminal import Terminal, examples, options
from paystack_source.commands import called, command
from paystack_source.errors import ExitCode, UsageError
from paystack_source.failures import explain, raise_interrupt
from paystack_source.settings import (
    ALL,
    DETAILS_BUDGET,
    REFRESH_BUDGET,
    SECTION,
    configured_accounts,
    dataset_of,
)
from paystack_source.values import counted
from paystack_source.warehouse.locations import DUCKDB

if TYPE_CHECKING:
    from paystack_source.extract.ledger import Entry
    from paystack_source.warehouse.sync import CopyReport

THIS = called("customers")
ClosingReport: TypeAlias = tuple[str, list[tuple[str, object]], dict[str, Any], list[str]]

BY_SEVERITY = (
    ExitCode.OK,
    ExitCode.UNEXPECTED,
    ExitCode.ROWS_FAILED,
    ExitCode.UNPROVEN,
    ExitCode.USAGE,
    ExitCode.REFUSED,
)
"""Exit codes from best to worst: `--account all` ends with the worst code of its accounts."""

SUMMED = (
    "rows_seen", "rows_new", "rows_refreshed", "rows_loaded", "api_total", "warehouse_total",
    "requests", "retries", "rate_limited", "seconds",
)  # fmt: skip
"""The numbers that `--account all` adds up."""


@click.command(
    epilog=examples(
        f"{THIS} --sandbox",
        f"{THIS} --from 2026-01-01 --to 2026-02-01",
        f"{THIS} --destination postgres --refresh-budget 600 --json",
    )
)
@location(
    destination="Where to, as dlt calls it.", dataset="Dataset (schema) of the copy.", all_accounts=True
)
@once("--from", "start", metavar="ISO", help="Only customers created at or after this time (UTC).")
@once("--to", "end", metavar="ISO", help="Only customers created before this time (UTC).")
@click.option("--refresh-budget", type=click.IntRange(min=0), default=REFRESH_BUDGET, show_default=True, metavar="N",
              help="Requests for reading old customers again, on top of what new ones cost; 0 is off.")  # fmt: skip
@click.option(
    "--full-refresh", is_flag=True, help="Read everything again; swapped in only when proven complete."
)
@click.option("--history", is_flag=True, help="Also keep every version of a customer that is seen.")
@click.option(
    "--details",
    is_flag=True,
    help="Also fetch new and changed customers one by one: identification, totals, saved cards.",
)
@click.option(
    "--details-budget",
    type=click.IntRange(min=1),
    default=DETAILS_BUDGET,
    show_default=True,
    metavar="N",
    help="Customers to fetch for --details; the others wait for the next run.",
)
@sharing
@options
def main(terminal: Terminal, **chosen: Any) -> int:  # noqa: ANN401  # click's options
    """Copy Paystack's customers, and prove that none is missing."""
    given = click.get_current_context().get_parameter_source("details_budget")
    if given is not ParameterSource.DEFAULT and not chosen["details"]:
        raise UsageError("--details-budget is for --details.", "Add --details, or leave it out.")
    if chosen["account_name"] == ALL:
        return copy_all(terminal, chosen)
    code, summary = copy(terminal, chosen)
    terminal.finish(*summary)
    return code


def copy(terminal: Terminal, chosen: dict[str, Any]) -> tuple[int, ClosingReport]:
    """Copy the customers of one account."""
    # dlt takes a second to import: the command line is checked before.
    from paystack_source.warehouse.sync import copy_customers, open_pipeline  # noqa: PLC0415

    terminal.context.run_id = uuid.uuid4().hex[:12]
    gc.freeze()  # dlt's objects stay in memory; collecting them took 5 % of a run
    with (
        terminal.progress("Reading customers", unit="customers") as progress,
        paystack(terminal, chosen, read_only=True) as (client, sandbox),
    ):
        if sandbox is not None:
            chosen["from"] = sandbox.describe()

        def count(total: int) -> None:
            progress.update(total=max(total, progress.now.done))

        def read(rows: int) -> None:
            progress.advance(rows)
            if progress.now.total:  # a refresh may read more customers than the total
                count(progress.now.total)
            progress.quota(client.quota_use("list"))

        def fetched(done: int, total: int) -> None:
            if not total:  # nothing is due
                return
            if not done:
                progress.begin("Fetching details", total=total)
            progress.update(done=done)
            progress.quota(client.quota_use("fetch"))

        pipeline = open_pipeline(*chosen_location(chosen))
        report = copy_customers(
            pipeline,
            client,
            start=chosen["start"],
            end=chosen["end"],
            refresh_budget=chosen["refresh_budget"],
            full_refresh=chosen["full_refresh"],
            history=chosen["history"],
            details=chosen["details_budget"] if chosen["details"] else 0,
            run_id=terminal.context.run_id,
            allow_incomplete=True,  # the closing table and the exit code show it
            on_rows=read,
            on_total=count,
            on_details=fetched,
        )
    view = chosen["account_name"] and with_all_accounts(terminal, pipeline, chosen["account_name"])
    code = ExitCode.OK if report.complete else ExitCode.UNPROVEN
    return code, summary(terminal, report, str(pipeline.destination_client().config), chosen, view)


def with_all_accounts(terminal: Terminal, pipeline: Any, account: str) -> str | None:  # noqa: ANN401  # dlt's
    """Create the view over all accounts again. An error is only a warning, because the copy is complete without it."""
    from paystack_source.warehouse.all_accounts import VIEW, refresh_all_customers  # noqa: PLC0415

    try:
        return refresh_all_customers(pipeline, account)
    except Exception as error:  # noqa: BLE001  # the next run creates it again
        raise_interrupt(error)
        terminal.warn(f"The view {VIEW} could not be renewed: {explain(error).message}")
        return None


def copy_all(terminal: Terminal, chosen: dict[str, Any]) -> int:
    """Copy one account after the other. If one fails, the others are copied all the same."""
    names = configured_accounts()
    if not names:
        raise UsageError(
            "There are no accounts.",
            f"Give each a key of its own: secret_key under [{SECTION}.accounts.NAME].",
        )
    common, results = terminal.context, {}
    worst: int = ExitCode.OK
    for name in names:
        terminal.context = replace(
            common, account_name=name, dataset=dataset_of(name), started_at=datetime.now(UTC)
        )
        try:
            code, (title, facts, result, then) = copy(terminal, {**chosen, "account_name": name})
            terminal.print_summary(f"{name}: {title}", facts, then)
        except Exception as error:  # noqa: BLE001  # the others are copied
            raise_interrupt(error)
            code, result = terminal.report(error)
        results[name] = result
        worst = max(worst, code, key=BY_SEVERITY.index)
    terminal.context = common
    terminal.finish(*total(results, worst, chosen))
    return worst


def total(results: dict[str, dict[str, Any]], worst: int, chosen: dict[str, Any]) -> ClosingReport:
    """The closing report of `--account all`."""
    sums = {name: round(sum(result.get(name) or 0 for result in results.values()), 2) for name in SUMMED}
    failed = [name for name, result in results.items() if result["status"] != "complete"]
    done = len(results) - len(failed)
    facts: list[tuple[str, object]] = [
        ("complete", f"{done:,} of {len(results):,} accounts"),
        ("customers", f"{sums['warehouse_total']:,}"),
        ("requests", f"{sums['requests']:,}"),
    ]
    messages = [f"{name}: {results[name].get('message') or 'not proven'}" for name in failed]
    facts += [("NOT COMPLETE", each) for each in messages]
    title = "All accounts" if failed else "Complete: every customer of every account is here"
    result = {
        "status": "incomplete" if failed else "complete",
        "exit_code": worst,
        **({"message": "; ".join(messages)} if messages else {}),
        "accounts": results,
        "total": sums,
    }
    question = '"select account_name, count(*) as customers from all_customers group by 1"'
    then = [command("query", chosen, question)] if chosen["destination"] == DUCKDB[0] and done else []
    return title, facts, result, then


def summary(
    terminal: Terminal, report: CopyReport, location_shown: str, chosen: dict[str, Any], view: str | None
) -> ClosingReport:
    """The closing table: title, facts, the object for --json, and what to do next."""
    table = f"{chosen_location(chosen)[1]}.customers"
    tries = f"{report.retries:,} retries, {report.rate_limited:,} over the quota"
    waited = f"of which {report.waited_seconds:,.1f} s waiting for the quota"
    rows: list[tuple[str, object]] = [
        *([("from", chosen["from"])] if "from" in chosen else []),
        ("account", f"{report.key_mode}, integration {report.account or '(unknown)'}"),
        (
            "customers",
            f"{report.warehouse_total:,}{report.whom} in {table}; Paystack {report.paystacks_count}",
        ),
        *(
            [("read", f"{report.rows_seen:,}, into a new table, which replaced the old one")]
            if chosen["full_refresh"]
            else [
                ("new", f"{report.rows_new:,}"),
                ("read again", f"{report.rows_refreshed:,}" + horizon(report)),
            ]
        ),
        ("requests", f"{report.requests:,} ({tries})"),
    ]
    if report.details is not None:
        due, failed = report.details.fetched + report.details.failed, report.details.failed
        parts = [f"{report.details.fetched:,} customers fetched" if due else "nothing was due"]
        parts += [f"{failed:,} could not be fetched"] if failed else []
        parts += [f"{report.details.waiting:,} wait for the next run"] if report.details.waiting else []
        rows.append(("details", "; ".join(parts)))
    if report.rows_missing:
        rows.append(("no longer shown", f"{report.rows_missing:,}, marked in _missing_since"))
    rows += [
        ("proven", proof(report)),
        ("time", f"{report.seconds:,.1f} s, {waited}"),
        ("where", location_shown),
    ]
    if view:
        rows.append(("all accounts", view))
    rows += [("NOT PROVEN", text) for text in dict.fromkeys(map(difference, report.unproven))]
    title = f"Complete: every customer{report.whom} is here" if report.complete else "NOT proven complete"
    question = f'"select risk_action, count(*) as customers from {table} group by 1"'  # noqa: S608  # to paste
    query = command("query", chosen, question)
    result = report.as_json() | terminal.context.as_json() | {"sandbox": chosen["sandbox"]}
    if not report.complete:
        return title, rows, result, [command("customers", chosen)]
    return title, rows, result, [query] if chosen["destination"] == DUCKDB[0] else []


def difference(entry: Entry) -> str:
    """A window that could not be proven, as text."""
    window = f"{entry.window_from or 'the beginning'} to {entry.window_to or 'now'}"
    if not entry.difference:
        return window
    return f"{window}: {counted(abs(entry.difference), 'customer')} {'missing' if entry.difference > 0 else 'too many'}"


def proof(report: CopyReport) -> str:
    """What the run proved and how, as text."""
    windows = counted(report.windows, "window")
    if not report.windows:
        return "no window"
    if report.api_total is None:
        return f"{windows}, by several readings that agree: Paystack gives no total to compare with"
    return f"{windows}, {'' if report.windows == 1 else 'each '}counted against Paystack's total"


def horizon(report: CopyReport) -> str:
    """Within how many runs every customer is read again, as text; "" for a range."""
    if report.window is not None:
        return ""
    if report.refresh_runs:
        return f"; every customer within {counted(report.refresh_runs, 'run')}"
    if report.filters_ignored:
        return "; Paystack does not filter by time here: old customers are read again only by --full-refresh"
    return "; --refresh-budget does not reach all customers: edits of old customers may not be seen"
