"""Where the key, the base URL and the quota come from, and their defaults.

Each is looked up in this order: the argument, the environment (``SOURCES__PAYSTACK__...``), dlt's own
providers (``.dlt/secrets.toml`` and ``.dlt/config.toml``, section ``[sources.paystack]``), and for the key
``PAYSTACK_SECRET_KEY`` last. No ``.dlt`` folder is needed, and dlt is imported only if the environment has no
value.
"""

from __future__ import annotations

import os

from paystack_source.api.keys import Mode, SecretKey
from paystack_source.api.wire import PAYSTACK
from paystack_source.errors import ConfigError

BASE_URL = PAYSTACK
QUOTA_BY_MODE: dict[Mode, int] = {"live": 600, "test": 100}  # beta.paystack.com/docs/api/rate-limits

KEY_NAME = "SOURCES__PAYSTACK__SECRET_KEY"
BASE_URL_NAME = "SOURCES__PAYSTACK__BASE_URL"
QUOTA_NAME = "SOURCES__PAYSTACK__QUOTA"
PLAIN_KEY_NAME = "PAYSTACK_SECRET_KEY"

WHERE_THE_KEY_IS_LOOKED_FOR = (
    f"Set {KEY_NAME}, or secret_key under [sources.paystack] in .dlt/secrets.toml, or {PLAIN_KEY_NAME}."
)


def find_key(given: str | SecretKey | None = None) -> SecretKey:
    """The secret key, its shape checked. Raises :class:`ConfigError` that says where it was looked for."""
    if given is not None:
        return SecretKey.parse(given)
    text = _look_up(KEY_NAME, secret=True) or os.environ.get(PLAIN_KEY_NAME)
    if text is None:
        raise ConfigError("There is no Paystack key", advice=WHERE_THE_KEY_IS_LOOKED_FOR)
    return SecretKey.parse(text)


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


def _look_up(name: str, *, secret: bool = False) -> str | None:
    """From the environment, else from dlt's providers."""
    value = os.environ.get(name)
    if value is not None and value.strip():
        return value
    import dlt  # noqa: PLC0415  # takes a second, and most callers have the environment set
    from dlt.common.configuration.exceptions import ConfigurationException  # noqa: PLC0415

    path = name.lower().replace("__", ".")
    try:
        found: object = (dlt.secrets if secret else dlt.config).get(path)
    except ConfigurationException:
        found = None
    return None if found is None else str(found)
