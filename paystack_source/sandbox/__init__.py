"""A local Paystack: a real HTTP server on loopback with invented customers.

It is as strict and as odd as Paystack, as far as Paystack is known. It shares no code with the client in
`paystack_source.api`, so one mistake cannot hide in both. `python -m paystack_source.sandbox --help`.
"""

import sys as _sys

try:
    import aiohttp as _aiohttp
except ModuleNotFoundError as error:  # only without the extra
    advice = "the sandbox needs aiohttp: pip install 'paystack-source[sandbox]'"
    if _sys.argv[:1] == ["-m"]:  # `python -m paystack_source.sandbox`
        _sys.stderr.write(f"error: {advice}\n")
        _sys.exit(2)
    raise ModuleNotFoundError(advice, name=error.name) from None
del _aiohttp

from paystack_source.sandbox.config import LIVE_KEY, TEST_KEY, SandboxConfig  # noqa: E402
from paystack_source.sandbox.core import Stats  # noqa: E402
from paystack_source.sandbox.faults import Fault, parse_faults  # noqa: E402
from paystack_source.sandbox.local import Sandbox  # noqa: E402
from paystack_source.sandbox.store import StateUnusableError  # noqa: E402

__all__ = [
    "LIVE_KEY",
    "TEST_KEY",
    "Fault",
    "Sandbox",
    "SandboxConfig",
    "StateUnusableError",
    "Stats",
    "parse_faults",
]
