"""Where the key, the base URL and the quota come from, and their defaults.

Each is looked up in this order: the argument, the environment (``SOURCES__PAYSTACK__...``, for the key also
``PAYSTACK_SECRET_KEY``), and dlt's own providers (``.dlt/secrets.toml`` and ``.dlt/config.toml``, section
``[sources.paystack]``). The environment wins over files: a file that somebody left in the working folder must not
choose the account. No ``.dlt`` folder is needed, and dlt is imported only if the environment has no value.
"""

from __future__ import annotations

import functools
import os
from importlib import metadata

from paystack_source.errors import ConfigError

BASE_URL = "https://api.paystack.co"
QUOTA_BY_MODE: dict[str, int] = {"live": 600, "test": 100}  # beta.paystack.com/docs/api/rate-limits

SANDBOX = "_sandbox"
"""How names of datasets, pipelines and folders end that belong to the copy of a sandbox."""

KEY_NAME = "SOURCES__PAYSTACK__SECRET_KEY"
BASE_URL_NAME = "SOURCES__PAYSTACK__BASE_URL"
QUOTA_NAME = "SOURCES__PAYSTACK__QUOTA"
PLAIN_KEY_NAME = "PAYSTACK_SECRET_KEY"

WHERE_THE_KEY_IS_LOOKED_FOR = (
    f"Set {KEY_NAME} or {PLAIN_KEY_NAME}, or secret_key under [sources.paystack] in .dlt/secrets.toml."
)


@functools.cache
def installed_version() -> str:
    """The version of the installed package; `unknown` where its folder was copied, not installed."""
    try:
        return metadata.version("paystack-source")
    except metadata.PackageNotFoundError:
        return "unknown"


def find_key() -> str:
    """The text of the secret key, not checked. Raises :class:`ConfigError` that says where it was looked for."""
    text = _in_environment(KEY_NAME) or os.environ.get(PLAIN_KEY_NAME) or _told_to_dlt(KEY_NAME, secret=True)
    if text is None:
        raise ConfigError("There is no Paystack key", advice=WHERE_THE_KEY_IS_LOOKED_FOR)
    return text


def find_base_url(given: str | None = None) -> str:
    """The base URL; which ones are allowed is checked where it is used."""
    return given or _look_up(BASE_URL_NAME) or BASE_URL


def find_quota(given: int | str | None = None) -> int | None:
    """Requests per 60 s and endpoint: 0 for no limit of our own, None for the default of the key's mode."""
    value = _look_up(QUOTA_NAME) if given is None else given
    if value is None or value == "":
        return None
    text = str(value).strip()
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(
            f"The quota is not a whole number: {text[:20]!r}",
            advice=f"Set {QUOTA_NAME} to requests per minute and endpoint, or 0 for no limit of our own.",
        )
    return int(text)


def _look_up(name: str) -> str | None:
    return _in_environment(name) or _told_to_dlt(name)


def _in_environment(name: str) -> str | None:
    value = os.environ.get(name)
    return value if value is not None and value.strip() else None


def _told_to_dlt(name: str, *, secret: bool = False) -> str | None:
    import dlt  # noqa: PLC0415  # takes a second, and most callers have the environment set
    from dlt.common.configuration.exceptions import ConfigurationException  # noqa: PLC0415

    path = name.lower().replace("__", ".")
    try:
        found: object = (dlt.secrets if secret else dlt.config).get(path)
    except ConfigurationException:
        found = None
    return None if found is None else str(found)
