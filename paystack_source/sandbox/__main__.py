"""`python -m paystack_source.sandbox`: the sandbox as a server of its own, until Ctrl-C."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click

from paystack_source.sandbox import Sandbox, StateUnusableError, parse_faults
from paystack_source.sandbox.config import parse_switch

EXAMPLES = """\b
Examples:
  paystack-source sandbox --customers 5000
  paystack-source sandbox --state sandbox.sqlite --port 8010
  paystack-source sandbox --quota 600 --window 60 --latency 120 --jitter 80
  paystack-source sandbox --faults html=0.01,cut=0.01,reset_after@writes#3
  paystack-source sandbox --set to_bound=inclusive --set null_cursor_text=on

\b
Use it from another terminal:
  export SOURCES__PAYSTACK__BASE_URL=http://127.0.0.1:8010
  export SOURCES__PAYSTACK__SECRET_KEY=sk_test_sandbox
"""


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.option(
    "--customers", default=5_000, type=click.IntRange(0), help="How many to invent for a new state."
)
@click.option(
    "--state", type=click.Path(dir_okay=False, path_type=Path), help="SQLite file to keep; else temporary."
)
@click.option("--seed", default=1, help="Same seed, same customers.")
@click.option("--until", help="ISO end of the three years the customers come from. Default: now.")
@click.option("--port", default=8010, type=click.IntRange(0, 65_535), help="0 takes a free one.")
@click.option(
    "--mode", default="test", type=click.Choice(["test", "live"]), help="Kind of key, and its quota."
)
@click.option("--quota", type=click.IntRange(0), help="Requests per window and endpoint; 0 for none.")
@click.option("--window", "window", default=60.0, help="Seconds of a quota window.")
@click.option("--latency", default=0.0, help="Milliseconds every answer takes.")
@click.option("--jitter", default=0.0, help="Up to so many milliseconds more.")
@click.option("--faults", default="", help="kind=rate, kind@endpoint=rate or kind@endpoint#3, with commas.")
@click.option(
    "--set", "switches", multiple=True, metavar="NAME=VALUE", help="Any other switch (docs/sandbox.md)."
)
def main(**given: Any) -> None:  # noqa: ANN401  # click hands over every option by name
    """Run a local Paystack with invented customers. No account, no network, no real data.

    The first line on standard output is JSON with url and secret_key; everything else goes to standard error.
    """
    try:
        options = {
            "mode": given["mode"],
            "seed": given["seed"],
            "limit": given["quota"],
            "window_seconds": given["window"],
            "latency": given["latency"] / 1000,
            "jitter": given["jitter"] / 1000,
            "faults": parse_faults(given["faults"]),
            **dict(parse_switch(text) for text in given["switches"]),
        }
        sandbox = Sandbox(
            given["customers"], state=given["state"], until=given["until"], port=given["port"], **options
        ).start()
    except (ValueError, StateUnusableError) as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        if error.filename:
            raise click.ClickException(f"{error.filename}: {error.strerror}") from None
        what = f"cannot listen on port {given['port']}: {error.strerror}"
        raise click.ClickException(f"{what}; --port 0 takes a free one") from None
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # before anybody is told that it runs
        signal.signal(number, lambda *_: stop.set())
    click.echo(json.dumps({"url": sandbox.url, "secret_key": sandbox.secret_key, "customers": len(sandbox)}))
    sys.stdout.flush()
    click.echo(
        f"{sandbox.describe()}\n"
        f"  export SOURCES__PAYSTACK__BASE_URL={sandbox.url}\n"
        f"  export SOURCES__PAYSTACK__SECRET_KEY={sandbox.secret_key}\n"
        f"  curl -H 'Authorization: Bearer {sandbox.secret_key}' '{sandbox.url}/customer?perPage=2'\n"
        "Ctrl-C stops it.",
        err=True,
    )
    stop.wait()
    sandbox.stop()
    click.echo(f"{sandbox.stats.total:,} requests answered.", err=True)


if __name__ == "__main__":
    main()
