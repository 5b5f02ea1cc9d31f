"""A Paystack that runs anywhere: a real HTTP server on loopback with invented customers.

As strict and as odd as the real one as far as that is known; shares no code with the client in
`paystack_source.api`, so that one mistake cannot hide in both. `python -m paystack_source.sandbox --help`.
"""

try:
    import aiohttp as _aiohttp
except ImportError as error:  # pragma: no cover - only without the extra
    raise ImportError("the sandbox needs aiohttp: pip install 'paystack-source[sandbox]'") from error
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
