"""The dlt source: Paystack's customers as a dlt user expects them.

    pipeline = dlt.pipeline("paystack_customers", destination="duckdb", dataset_name="paystack")
    pipeline.run(paystack_source())

`customers` has one row per customer, and `ledger` one row per window that was read and counted. The resource's
state stores the proven windows; dlt commits it together with the rows.

`pipeline.run(paystack_source())` uses the engine of `copy_customers`: it locks folder and dataset, finishes interrupted
loads, repairs the dataset, completes the history, and counts the customers in the destination at the end. dlt makes one
load of it, so there are three differences:

- There are no checkpoints. A run that is interrupted while it reads begins again.
- The destination is counted after the load. If the count does not agree, dlt's log and the ledger have the error,
  and the next run reads what is missing; nothing is raised.
- Details are fetched only for customers that the destination had before the run.

The items of `customers` are Arrow tables. A map (`add_map`) gets one and returns one, or a pandas or polars frame. A
map that drops customers lets no run be proven complete. `add_filter` would keep or drop whole tables.

If `extract`, `normalize` and `load` are called one by one, nothing is counted at the end, and `rows_held_after` stays
null in the ledger.
With `enable_runtime_trace=false` dlt does not call us when a run begins: then there is no lock and no count at the end,
and a dataset that needs repair is refused. It is also refused if the destination is an argument of `pipeline.run`.
"""

from __future__ import annotations

import functools
import logging
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

import dlt
from dlt.extract import DltSource
from dlt.extract.decorators import DltSourceFactoryWrapper

from paystack_source.api.arguments import count_of, flags
from paystack_source.api.client import PaystackClient
from paystack_source.api.keys import SecretKey
from paystack_source.extract.details import fetch_customers
from paystack_source.extract.windows import bounds
from paystack_source.settings import DETAILS_BUDGET, REFRESH_BUDGET, account_of, require_own_dlt_folder
from paystack_source.warehouse.copying import Copying, resources
from paystack_source.warehouse.details import details_resources, due_customers
from paystack_source.warehouse.dlt_quirks import current_section
from paystack_source.warehouse.orchestrators import Waits, scheduled_window, terminal_errors
from paystack_source.warehouse.sync import PLAIN_RUNS

if TYPE_CHECKING:  # dlt reads the annotations of a source's arguments, as far as it can resolve them
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime

    from dlt.extract.reference import SourceFactory

    from paystack_source.extract.details import Fetched
    from paystack_source.extract.windows import Window

log = logging.getLogger("paystack_source")
P = ParamSpec("P")


class _KeyHidden(DltSourceFactoryWrapper[Any, DltSource]):
    """A dlt source whose argument `secret_key` reaches dlt as a `SecretKey`.

    dlt's frames have the arguments, and a traceback with local variables would show a text. If no key is given, we look
    it up, not dlt: dlt would inject a text. It injects nothing here, because `SecretKey` is the first type of the
    argument.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> DltSource:  # noqa: ANN401  # as dlt's
        if args:
            args = (_hidden(args[0]), *args[1:])
        elif "secret_key" in kwargs:
            kwargs["secret_key"] = _hidden(kwargs["secret_key"])
        return super().__call__(*args, **kwargs)


def _hidden(key: object) -> object:
    return SecretKey(key) if isinstance(key, str) else key


def _dlt_source(function: Callable[P, Any]) -> SourceFactory[P, DltSource]:
    """As `dlt.source`, which cannot be given another class of factory."""
    return _KeyHidden().clone(name="paystack", section="paystack").bind(function)


@_dlt_source
def paystack_source(  # noqa: PLR0913, PLR0917  # the settings of a source are its arguments
    secret_key: SecretKey | str | None = None,
    base_url: str | None = None,
    quota: int | None = None,
    quota_share: float = 1.0,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    refresh_budget: int = REFRESH_BUDGET,
    history: bool = False,
    details: bool = False,
    include: Collection[str] = (),
    allow_incomplete: bool = False,
    allow_external_schedulers: bool = False,
    account: int | None = None,
) -> Any:  # noqa: ANN401  # dlt wants resources
    """Paystack's customers: the tables `customers` and `ledger`, and more if asked for.

    Args:
        secret_key: `sk_test_…` or `sk_live_…`; default: `sources.paystack.secret_key` or `PAYSTACK_SECRET_KEY`. A clone
            with another section, such as `paystack.accounts.ng`, takes the key from that section only.
        base_url: Default: Paystack's. Another one must be on loopback, and needs a test key.
        quota: Requests per 60 s and endpoint; default by the key's mode, 0 for no limit of our own.
        quota_share: The part of the quota to use, above 0 to 1.
        start: Only customers created at or after this time; ISO 8601 or datetime, UTC if it has no zone.
        end: Only customers created before this time.
        refresh_budget: Requests for reading old customers again, on top of what new ones cost; 0 is off.
        history: Also fill `customers_history`, see `paystack_source.warehouse.history`.
        details: Also fill `customer_details` and `customer_authorizations` (see `paystack_source.warehouse.details`),
            for up to 600 customers that the destination held before this run.
        include: Fields of the details to keep in clear, such as `authorization_code`; otherwise left out or masked.
        allow_incomplete: Load what was read even if it could not be proven complete; the table `ledger` says what
            is missing. Otherwise such a run fails and loads nothing.
        allow_external_schedulers: Take `start` and `end` from the scheduler that runs dlt, if it gives them:
            `DLT_INTERVAL_START` and `_END`, or Airflow's data interval. They are looked up when a run begins to
            read, since a source may be built long before. If the interval is empty, a warning is logged and all
            customers are read.
        account: The number of the integration that every customer has to belong to; any other one is an error.

    Raises:
        ConfigError: No usable key or setting, the dataset holds another account's customers, it needs a repair that
            this run cannot make, or another Paystack source runs in the same load. During a run dlt wraps the error.
        AlreadyRunningError: The dataset's lock was lost while the run held it; dlt wraps it.
        PaystackError: Paystack could not be read; dlt wraps it.
        NotCompleteError: The copy could not be proven complete; dlt wraps it.

    """
    PLAIN_RUNS.sources_made = True
    with terminal_errors():
        flags(history=history, details=details, allow_incomplete=allow_incomplete)
        flags(allow_external_schedulers=allow_external_schedulers)
        connect = _connection(secret_key, base_url=base_url, quota=quota, quota_share=quota_share)
        given = bounds(start, end)
    copying = functools.partial(
        _copying,
        connect,
        scheduled_window if allow_external_schedulers and given is None else lambda: given,
        refresh_budget=count_of("refresh_budget", refresh_budget),
        allow_incomplete=allow_incomplete,
        account=account if account is None else count_of("account", account),
    )
    more = details_resources(functools.partial(_due, connect), include) if details else ()
    return resources(copying, history=history) + more


def _connection(
    secret_key: SecretKey | str | None,
    base_url: str | None,
    **limits: Any,  # noqa: ANN401
) -> Callable[..., PaystackClient]:
    """Check the settings, and return a function that makes a client, because each run opens its own connections.

    A clone with another section takes the key from that section only. With another account's key, that account's
    customers would be loaded into the dataset.
    """
    require_own_dlt_folder()
    section, pipeline = current_section()
    key = SecretKey.find(section, pipeline) if secret_key is None else SecretKey.parse(secret_key)
    limits |= {"account_name": account_of(section)}
    with PaystackClient(key, base_url=base_url, read_only=True, **limits) as checked:
        return functools.partial(
            PaystackClient, checked.key, base_url=checked.base_url, read_only=True, **limits
        )


@contextmanager
def _copying(
    connect: Callable[..., PaystackClient],
    window: Callable[[], Window | None],
    **settings: Any,  # noqa: ANN401  # of `Copying`
) -> Iterator[Copying]:
    """A new run with its own client, which is closed at the end."""
    waits = Waits()
    with (
        connect(on_wait=waits) as client,
        closing(Copying(client, window=window(), waits=waits, **settings)) as copying,
    ):
        yield copying


def _due(connect: Callable[..., PaystackClient]) -> Iterator[Fetched]:
    waits = Waits()
    with connect(on_wait=waits) as client, waits.shown():
        due, _waiting = due_customers(dlt.current.pipeline(), DETAILS_BUDGET)
        yield from fetch_customers(client, due)
