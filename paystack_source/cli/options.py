"""Helpers to declare options, the options for account and location of a copy, and the client for them."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from paystack_source.cli.terminal import Terminal
from paystack_source.errors import UsageError
from paystack_source.settings import ALL, DATASET, SANDBOX, check_dataset, dataset_of, section_of
from paystack_source.values import whole_number
from paystack_source.warehouse.locations import DUCKDB, sandbox_location

if TYPE_CHECKING:
    from paystack_source.api.client import PaystackClient
    from paystack_source.sandbox.local import Sandbox

sharing = click.option(
    "--quota-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Part of the key's quota that this run may use.",
)
_SANDBOX_HELP = "A local Paystack with invented customers and a copy of its own; no account."


def once(
    *names: str,
    check: Callable[[Any], Any] = lambda value: value,
    **more: Any,  # noqa: ANN401  # what `click.option` takes
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`click.option(*names, **more)` that refuses two different values; `check` gets the value if there is one."""

    def checked(_context: click.Context, _option: click.Parameter, values: tuple[Any, ...]) -> Any:  # noqa: ANN401
        if len(set(values)) > 1:
            raise click.BadParameter(f"{' and '.join(map(str, values))}: give one of them")
        return check(values[0]) if values else None

    if "default" in more:
        more["default"] = [more["default"]]
    return click.option(*names, multiple=True, callback=checked, **more)


def together(*decorators: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Join several options into one decorator."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def location(
    *, dataset: str, destination: str = "", all_accounts: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options `--sandbox`, `--account`, `--dataset` and, if it has a help text, `--destination`.

    The command gets them as typed; `chosen_location` returns the copy's location. A dataset's name that dlt would
    change is refused. `all_accounts`: the command accepts `--account all`.
    """

    def located(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def call(*args: object, **chosen: Any) -> object:  # noqa: ANN401
            if chosen["account_name"] == ALL:
                _require_all(chosen["dataset"], possible=all_accounts)
            return command(*args, **chosen)

        return call

    where_to = once(
        "--destination", default=DUCKDB[0], show_default=True, check=_not_of_sandbox, help=destination
    )
    more = f", or {ALL}" if all_accounts else ""
    return together(
        click.option("--sandbox", is_flag=True, help=_SANDBOX_HELP),
        once(
            "--account",
            "account_name",
            metavar="NAME",
            check=_checked_account,
            help=f"The account with the key in [sources.paystack.accounts.NAME]{more}.",
        ),
        *([where_to] if destination else []),
        once(
            "--dataset",
            metavar="NAME",
            check=check_dataset,
            help=f"{dataset} [default: {DATASET}, or {dataset_of('NAME')} with --account]",
        ),
        located,
    )


def chosen_location(chosen: dict[str, Any]) -> tuple[str, str]:
    """Destination and dataset of the chosen copy, with `--sandbox` of the sandbox's copy."""
    named = chosen.get("destination", DUCKDB[0]), chosen["dataset"] or dataset_of(chosen["account_name"])
    return sandbox_location(*named) if chosen["sandbox"] else named


def _require_all(dataset: str | None, *, possible: bool) -> None:
    if not possible:
        raise UsageError("This command is for one account at a time.", "Name one of them as --account.")
    if dataset:
        raise UsageError(
            f"--account {ALL} and --dataset exclude each other.",
            f"Each account has a dataset of its own, {dataset_of('NAME')}.",
        )


def _not_of_sandbox(value: str) -> str:
    if not value:
        raise click.BadParameter("the name is blank")
    if value.endswith(SANDBOX):
        raise click.BadParameter(f"{value!r}: names that end in {SANDBOX} are reserved for --sandbox")
    return value


def _checked_account(value: str) -> str:
    if value != ALL:
        section_of(value)
    return value


def _sandbox_size() -> int | None:
    """The number of customers of a new sandbox; None for the default."""
    text = os.environ.get("PAYSTACK_SANDBOX_CUSTOMERS", "").strip()
    size = whole_number(text)
    if text and size is None:
        raise UsageError(
            "PAYSTACK_SANDBOX_CUSTOMERS is not a whole number.", "Set it to one, or leave it out."
        )
    return size


@contextlib.contextmanager
def paystack(
    terminal: Terminal,
    chosen: dict[str, Any],
    **client: Any,  # noqa: ANN401  # more for `PaystackClient`
) -> Iterator[tuple[PaystackClient, Sandbox | None]]:
    """The client of a command, and its sandbox with `--sandbox`."""
    from paystack_source.api.client import PaystackClient  # noqa: PLC0415  # --help is quick without
    from paystack_source.api.keys import SecretKey  # noqa: PLC0415

    with contextlib.ExitStack() as stack:
        key = url = sandbox = None
        if chosen["sandbox"]:
            from paystack_source.sandbox.demo import open_sandbox  # noqa: PLC0415  # an extra of the package

            sandbox = stack.enter_context(open_sandbox(_sandbox_size(), account=chosen["account_name"]))
            key, url = SecretKey.parse(sandbox.secret_key, "the sandbox"), sandbox.url
        opened = PaystackClient(
            key,
            account_name=chosen["account_name"],
            base_url=url,
            quota_share=chosen.get("quota_share", 1.0),
            on_wait=terminal.waits,
            **client,
        )
        terminal.use(opened.key)
        yield stack.enter_context(opened), sandbox
