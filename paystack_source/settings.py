"""Where the key, the base URL and the quota come from, their defaults, and those of a run's budgets.

Each is looked up in this order: the argument, the environment (``SOURCES__PAYSTACK__...``, for the key also
``PAYSTACK_SECRET_KEY``), and dlt's own providers (``.dlt/secrets.toml`` and ``.dlt/config.toml``, section
``[sources.paystack]``). The environment wins over files, so that a file in the working folder cannot choose the
account. No ``.dlt`` folder is needed, and dlt is imported only if the environment has no value.

With several accounts each has a section, ``[sources.paystack.accounts.NAME]``. The key of an account is taken from its
own section only. A base URL or a quota that the section lacks is taken from ``[sources.paystack]``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from paystack_source.errors import ConfigError
from paystack_source.private_files import check_private

BASE_URL = "https://api.paystack.co"
QUOTA_BY_MODE: dict[str, int] = {"live": 600, "test": 100}  # beta.paystack.com/docs/api/rate-limits

SANDBOX = "_sandbox"
"""The ending of the names of datasets, pipelines and folders that belong to the copy of a sandbox."""

KEY_NAME = "SOURCES__PAYSTACK__SECRET_KEY"
BASE_URL_NAME = "SOURCES__PAYSTACK__BASE_URL"
QUOTA_NAME = "SOURCES__PAYSTACK__QUOTA"
PLAIN_KEY_NAME = "PAYSTACK_SECRET_KEY"

SECTION: Final = "sources.paystack"
"""The section of dlt's configuration for a single account, and for the settings that all accounts share."""

DATASET: Final = "paystack"
REFRESH_BUDGET: Final = 60
"""Requests per run for reading old customers again: 6,000 customers, a tenth of a live minute's quota."""
DETAILS_BUDGET: Final = 600
"""Customers fetched in one run for their details: a live minute's quota of the endpoint."""
EQUAL_REJECTIONS: Final = 20
"""After this many equal rejections in a row a bulk run stops."""

ARGUMENT_SOURCE: Final = "an argument"
"""The source of a key that the caller's program passes."""

ALL: Final = "all"
"""`--account all` means all accounts, so no account can have this name."""

_ACCOUNTS: Final = f"{SECTION}.accounts."
_NAME: Final = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_LONGEST: Final = 40  # PostgreSQL takes 63 characters for a schema, and dlt adds `_staging`

KEY_ADVICE = f"Set {KEY_NAME} or {PLAIN_KEY_NAME}, or secret_key under [{SECTION}] in .dlt/secrets.toml."


@functools.cache
def installed_version() -> str:
    """The version of the installed package; `unknown` if its folder was only copied."""
    try:
        return metadata.version("paystack-source")
    except metadata.PackageNotFoundError:
        return "unknown"


# -- accounts ---------------------------------------------------------------------------------------------------------


def dataset_of(account: str | None) -> str:
    """The default dataset of an account's copy."""
    return f"{DATASET}_{account}" if account else DATASET


def check_dataset(name: str) -> str:
    """Return the name if dlt takes it unchanged, else raise `ConfigError`: dlt would change it silently.

    A name of the sandbox's datasets is refused as well.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9]*(_[a-z0-9]+)*", name):
        raise ConfigError(
            f"{name!r}: a dataset's name has only small letters, digits and single underscores",
            advice="Give the dataset another name.",
        )
    if name in {"information_schema", "pg_catalog", "system", "temp"}:
        raise ConfigError(
            f"{name!r}: databases reserve this name",
            advice="Give the dataset another name.",
        )
    if name.endswith(SANDBOX):
        raise ConfigError(
            f"{name!r}: names that end in {SANDBOX} are reserved for --sandbox",
            advice="Give the dataset another name.",
        )
    return name


def section_of(account: str | None) -> str:
    """The section with the settings of an account. Raises :class:`ConfigError` for a name that no account can have."""
    if account is None:
        return SECTION
    reserved = account == ALL or f"_{account}".endswith(SANDBOX)
    if reserved or not _NAME.fullmatch(account) or len(account) > _LONGEST:
        raise ConfigError(
            f"This is not a name for an account: {account[:_LONGEST]!r}",
            advice="Use small letters, digits and single underscores, as the name is a part of the dataset's; "
            f"{ALL}, and names that end in sandbox, have another meaning.",
        )
    return f"{_ACCOUNTS}{account}"


def account_of(section: str) -> str | None:
    """The account of this section; None for other sections."""
    return section.removeprefix(_ACCOUNTS) if section.startswith(_ACCOUNTS) else None


def configured_accounts() -> list[str]:
    """The names of the sections of accounts, in the environment and in dlt's files."""
    prefix = _variable(_ACCOUNTS, "")
    named = (re.fullmatch(rf"{prefix}(\w+?)__[A-Z]+(_[A-Z]+)*", name) for name in os.environ)
    found = {match[1].lower() for match in named if match}
    import dlt  # noqa: PLC0415  # takes a second

    for provider in dlt.secrets.config_providers:
        table = provider.get_value("accounts", dict, None, *SECTION.split("."))[0]
        if isinstance(table, dict):
            found |= {str(name) for name, settings in table.items() if isinstance(settings, dict)}
    return sorted(found)


# -- lookup -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FoundKey:
    """The text of a key, not checked, and where it was found: the name of a variable, or the path of a file."""

    text: str = field(repr=False)
    source: str


def find_key(section: str = SECTION, pipeline: str | None = None) -> FoundKey:
    """The key of a section. `pipeline`: the section `[PIPELINE.SECTION]` is searched first, as dlt does.

    Raises:
        ConfigError: There is no key in this section, or other users can write the file that it is in.

    """
    sections = [f"{pipeline}.{section}", section] if pipeline else [section]
    variables = [_variable(each, "secret_key") for each in sections]
    if section == SECTION:
        variables.append(PLAIN_KEY_NAME)
    for name in variables:
        if text := os.environ.get(name):
            return FoundKey(text, name)
    for each in sections:
        if stored := _dlt_value(f"{each}.secret_key", secret=True):
            found = FoundKey(stored[0], str(stored[1]))
            del stored  # or a traceback with locals would show the key
            _require_own(Path(found.source))
            return found
    raise _missing_key(section)


def _missing_key(section: str) -> ConfigError:
    if section == SECTION:
        accounts = ", ".join(configured_accounts())
        named = f" Or name an account, by --account or account_name: {accounts}." if accounts else ""
        return ConfigError("There is no Paystack key", advice=f"{KEY_ADVICE}{named}")
    account = account_of(section)
    advice = f"Set {_variable(section, 'secret_key')}, or secret_key under [{section}] in .dlt/secrets.toml."
    message = f"There is no Paystack key in the section {section}"
    if account is not None:
        configured = configured_accounts()
        advice += f" Accounts that have a section: {', '.join(configured) or 'none'}."
        if account not in configured:
            message = f"There is no account {account}: nothing sets {section}"
    return ConfigError(message, advice=advice)


def find_base_url(given: str | None = None, section: str = SECTION) -> str:
    """The base URL. `api.wire.check_host` checks whether it is allowed."""
    return given or _look_up("base_url", section) or BASE_URL


def find_quota(given: int | str | None = None, section: str = SECTION) -> int | None:
    """Requests per 60 s and endpoint: 0 for no limit of our own, None for the default of the key's mode."""
    value = _look_up("quota", section) if given is None else given
    if value is None or value == "":
        return None
    text = str(value).strip()
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(
            f"The quota is not a whole number: {text[:20]!r}",
            advice=f"Set {QUOTA_NAME} to requests per minute and endpoint, or 0 for no limit of our own.",
        )
    return int(text)


def _look_up(name: str, section: str) -> str | None:
    """A setting of this section, or else of `[sources.paystack]`. The environment wins over the files of both."""
    sections = dict.fromkeys((section, SECTION))
    for each in sections:
        value = os.environ.get(_variable(each, name), "")
        if value.strip():
            return value
    for each in sections:
        if found := _dlt_value(f"{each}.{name}"):
            return found[0]
    return None


def _variable(section: str, name: str) -> str:
    return f"{section}.{name}".replace("..", ".").replace(".", "__").upper()


# -- dlt's files ------------------------------------------------------------------------------------------------------


def _dlt_value(path: str, *, secret: bool = False) -> tuple[str, Path] | None:
    """The value that dlt's providers have under this path, and its file; None if there is none.

    A provider without a file is named by a relative path.
    """
    import dlt  # noqa: PLC0415  # takes a second, and most callers have the environment set
    from dlt.common.configuration.exceptions import ConfigurationException  # noqa: PLC0415

    accessor: Any = dlt.secrets if secret else dlt.config
    *sections, key = path.split(".")
    for provider in accessor.config_providers:
        try:
            found = provider.get_value(key, accessor.default_type, None, *sections)[0]
        except ConfigurationException:
            continue
        if found is not None:
            return str(found), _file_of(provider, key, sections)
    return None


def _file_of(provider: Any, key: str, sections: list[str]) -> Path:  # noqa: ANN401  # dlt's, or a plug-in's
    """The file that a provider read a value from."""
    files = [Path(each).absolute() for each in getattr(provider, "present_locations", ())]
    if not files:
        return Path(provider.name)
    # dlt merges the files of its own folder and of the working folder, and marks values of its own folder.
    of_dlt = provider.get_value_location(key, None, *sections).startswith("global:")
    return files[-1] if of_dlt else files[0]


def delete_after_load(pipeline_name: str) -> None:
    """Make dlt delete the files of a load, and empty the staging tables, when the load has ended.

    By default dlt keeps both. A user's setting, for all pipelines or for this one, is kept.
    """
    import dlt  # noqa: PLC0415  # takes a second

    for setting in ("load.delete_completed_jobs", "load.truncate_staging_dataset"):
        if all(dlt.config.get(path) is None for path in (setting, f"{pipeline_name}.{setting}")):
            dlt.config[f"{pipeline_name}.{setting}"] = True


def require_own_dlt_folder() -> None:
    """Raise :class:`ConfigError` if other users can write the folder of dlt's global settings.

    Without a writable home that folder is `/tmp/dlt`, which any user can create. Its settings choose the account and
    the destination.
    """
    import dlt  # noqa: PLC0415  # takes a second

    folder = Path(dlt.current.run_context().global_dir)
    if any((folder / name).exists() for name in ("secrets.toml", "config.toml")):
        check_private(folder)


def _require_own(file: Path) -> None:
    """Raise :class:`ConfigError` if others can write this file. It may belong to root."""
    if not file.is_absolute():  # the name of a provider that reads no file
        return
    with contextlib.suppress(FileNotFoundError):
        # Root in a container works in a folder of the host, and the files belong to the owner of that folder.
        root = os.name != "nt" and os.geteuid() == 0
        check_private(file, "file", owners={file.parent.stat().st_uid} if root else {0})
