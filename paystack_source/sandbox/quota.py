"""Paystack's rate limit: fixed windows, counted for each endpoint of an integration.

Documented (beta.paystack.com/docs/api/rate-limits): 600 requests per 60 seconds with a live key, 100 with a
test key, per endpoint; 429 with `x-ratelimit-limit`, `-remaining`, `-reset`. Not documented: where a window
begins, whether the headers come on other answers, and whether reset counts seconds or names a moment; each
of those is a switch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from paystack_source.sandbox.config import SandboxConfig


@dataclass(slots=True)
class _Window:
    started: float
    used: int = 0


class Quota:
    """Counts requests. Time comes in as an argument, so a test can be anywhere in a window."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def reset(self) -> None:
        """Begin new windows, for example when the limit changes."""
        self._windows.clear()

    def take(self, endpoint: str, now: float, config: SandboxConfig) -> tuple[bool, dict[str, str]]:
        """Whether the request may go on, and the rate limit headers of its answer."""
        limit = config.quota_limit
        if limit == 0:
            return True, {}
        length = config.window_seconds
        scope = endpoint if config.quota_scope == "endpoint" else "*"
        window = self._windows.get(scope)
        if window is None or not window.started <= now < window.started + length:
            started = now if config.window_anchor == "first_request" else now - now % length
            window = self._windows[scope] = _Window(started)
        granted = window.used < limit
        window.used += granted
        return granted, _headers(config, limit - window.used, window.started + length, now, granted=granted)


def _headers(
    config: SandboxConfig, remaining: int, ends: float, now: float, *, granted: bool
) -> dict[str, str]:
    left = max(1, math.ceil(ends - now))
    headers = {}
    if config.headers == "always" or (config.headers == "on_429" and not granted):
        headers = {
            "x-ratelimit-limit": str(config.quota_limit),
            "x-ratelimit-remaining": str(remaining),
            "x-ratelimit-reset": str(math.ceil(ends) if config.reset_form == "epoch" else left),
        }
    if config.retry_after and not granted:
        headers["Retry-After"] = str(left)
    return headers
