"""Makes dlt's loads cheaper in tests, where they have few rows and their cost is dlt's own work.

dlt looks up each setting anew for each step of a load: functions that depend on their arguments alone are called with
the same ones 10,000 times a load. They remember their answers here. A name that no provider of settings knows at all is
looked up once, not once for each of its possible places. A stored schema is checked once, hashed once, and made anew
only when its file was written anew. dlt also looks once a second whether the steps of a lake table are done.

The slow hash of inputs with secrets is quick as well, except where a test is about it.
"""

from __future__ import annotations

import copy
import functools
import gc
import hashlib
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import dlt
import duckdb
from dlt.common import validation
from dlt.common.configuration import resolve
from dlt.common.configuration.container import Container
from dlt.common.configuration.providers.doc import BaseDocProvider
from dlt.common.configuration.providers.environ import EnvironProvider
from dlt.common.configuration.specs import BaseConfiguration
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.destination import Destination
from dlt.common.json import json
from dlt.common.normalizers.json import relational
from dlt.common.pipeline import PipelineContext
from dlt.common.schema import schema as schemas
from dlt.common.schema import utils
from dlt.common.storages.live_schema_storage import LiveSchemaStorage
from dlt.destinations.impl.duckdb.configuration import DuckDbClientConfiguration
from dlt.extract import extract
from dlt.load import Load

from paystack_source.bulk.plan import plan

SCRYPT = dict(plan._COST)
"""The cost of that hash as the package has it."""

OF_THEIR_ARGUMENTS_ALONE = (
    "extract_inner_hint",
    "is_base_configuration_inner_hint",
    "is_context_inner_hint",
    "is_hint_not_resolvable",
    "is_secret_hint",
    "is_subclass",
    "is_union_type",
    "is_valid_hint",
)


def remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which answers again what it answered before."""
    remembered = functools.lru_cache(maxsize=None)(function)

    @functools.wraps(function)
    def asked(*args: Any, **kwargs: Any) -> Any:
        try:
            return remembered(*args, **kwargs)
        except TypeError:  # not hashable
            return function(*args, **kwargs)

    return asked


def looking_once(look: Callable[..., Any]) -> Callable[..., Any]:
    """The look-up of a setting, which remembers the places it looked at in vain where no place can have it."""
    vain: dict[Any, Any] = {}

    def known(provider: Any, key: str) -> bool:
        if "__" in key:
            return True
        if isinstance(provider, EnvironProvider):
            return key.upper() in last_parts(frozenset(os.environ._data))
        return not isinstance(provider, BaseDocProvider) or key in names(provider)

    def asked(provider: Any, key: str, hint: Any, *places: Any) -> Any:
        if known(provider, key):
            return look(provider, key, hint, *places)
        asked_for = (type(provider), provider.name, key, hint, places)
        if asked_for not in vain:
            vain[asked_for] = look(provider, key, hint, *places)[1]
        return None, list(vain[asked_for])

    return asked


def capable_as_before(tell: Callable[..., Any]) -> Callable[..., Any]:
    """What a destination can do, where it is not asked about certain settings."""
    told: dict[Any, Any] = {}

    def asked(self: Any, config: Any = None, naming: Any = None) -> Any:
        if config is not None:
            return tell(self, config, naming)
        asked_for = (type(self), repr(self.config_params), type(naming), getattr(naming, "max_length", None))
        if asked_for not in told:
            told[asked_for] = tell(self, None, naming)
        return copy.copy(told[asked_for])

    return asked


def resolved_as_before(resolve_settings: Callable[..., Any]) -> Callable[..., Any]:
    """The settings of a DuckDB destination, which are copied while all that they depend on is as it was."""
    known: dict[Any, Any] = {}

    def asked(self: Any, initial_config: Any, accept_partial: bool = False) -> Any:
        if not isinstance(initial_config, DuckDbClientConfiguration) or initial_config.credentials:
            return resolve_settings(self, initial_config, accept_partial)
        documents = [
            repr(provider._config_doc)
            for provider in Container()[PluggableRunContext].providers.providers
            if isinstance(provider, BaseDocProvider)
        ]
        pipelines = Container()[PipelineContext]
        asked_for = (
            self.destination_name,
            repr((self.config_params, vars(initial_config), documents)),
            frozenset(os.environ._data.items()),
            Path.cwd(),
            pipelines.is_active() and pipelines.pipeline().working_dir,
        )
        if asked_for not in known:
            known[asked_for] = resolve_settings(self, initial_config, accept_partial)
        config = known[asked_for].copy()
        config.credentials = config.credentials.copy()
        config.credentials.on_resolved()
        return config

    return asked


def unless_it_is_known(load: Callable[..., Any]) -> Callable[..., Any]:
    """The schema of a pipeline, which is not made anew while file and schema are those of the last time."""

    def asked(self: Any, name: str) -> Any:
        live, read = self.live_schemas.get(name), vars(self).setdefault("read", {})
        file = self._file_name_in_store(name, "json")
        stored = self.storage.load(file) if self.storage.has_file(file) else None
        if live is not None and stored is not None and not self.config.import_schema_path:
            version = live.version_hash
            if version == live.stored_version_hash and read.get(name) == (stored, version):
                return live
        loaded = load(self, name)
        read[name] = (stored, loaded.version_hash)
        return loaded

    return asked


def by_its_spelling(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which remembers its answers to arguments that are not hashable, but small."""
    known: dict[str, Any] = {}

    @functools.wraps(function)
    def asked(*args: Any, **kwargs: Any) -> Any:
        spelled = repr((args, kwargs))
        if spelled not in known:
            known[spelled] = function(*args, **kwargs)
        return known[spelled]

    return asked


@functools.cache
def last_parts(variables: frozenset[bytes]) -> set[str]:
    """The keys of settings that environment variables end with."""
    return {os.fsdecode(name).rsplit("__", 1)[-1] for name in variables}


def names(provider: BaseDocProvider) -> set[str]:
    """All names in the settings of a provider; they are gathered anew when a setting was set."""
    document = provider._config_doc
    known: tuple[Any, set[str]] | None = vars(provider).get("names")
    if known is None or known[0] is not document:
        known = vars(provider)["names"] = document, set(nested_names(document))
    return known[1]


def nested_names(settings: Any) -> Iterator[str]:
    if isinstance(settings, dict):
        for name, part in settings.items():
            yield name
            yield from nested_names(part)


def forgetting_names(change: Callable[..., None]) -> Callable[..., None]:
    """The change of a setting, after which the provider may have new names."""

    def changed(self: Any, *args: Any) -> None:
        change(self, *args)
        vars(self).pop("names", None)

    return changed


IMMUTABLE = frozenset({str, int, float, bool, type(None)})


def clone(value: Any) -> Any:
    """A copy of a schema: `copy.deepcopy` asks of each part whether it was copied before."""
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    if kind is dict:
        return {name: part if type(part) in IMMUTABLE else clone(part) for name, part in value.items()}
    return [clone(part) for part in value] if kind is list else copy.deepcopy(value)


def hashed_once(hash_of: Callable[[Any], str]) -> Callable[[Any], str]:
    """The hash of a stored schema, by its content in the order in which it stands there."""
    known: dict[bytes, str] = {}

    def asked(schema: Any) -> str:
        content = json.dumpb({name: part for name, part in schema.items() if name not in NOT_HASHED})
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        if digest not in known:
            known[digest] = hash_of(schema)
        return known[digest]

    return asked


NOT_HASHED = {"version", "version_hash", "imported_version_hash", "previous_hashes"}


def in_its_thread(find: Callable[[Container], int]) -> Callable[[Container], int]:
    """The thread whose settings are used: that of a pool is told by the name of its threads."""

    def found(self: Container) -> int:
        pooled = threading.current_thread().name.startswith("dlt-pool-")
        return find(self) if pooled else threading.get_ident()

    return found


def alone(connect: Callable[..., Any]) -> Callable[..., Any]:
    """DuckDB in the caller's thread, unless the caller says how many there are to be."""

    @functools.wraps(connect)
    def connected(*args: Any, config: Any = None, **more: Any) -> Any:
        return connect(*args, config={"threads": 1} | (config or {}), **more)

    return connected


def make_schemas_quick() -> None:
    """Those that a pipeline has, and those that are stored."""
    check, checked = utils.validate_stored_schema, set()

    def check_once(schema: Any) -> None:
        if schema["version_hash"] not in checked:
            check(schema)
            checked.add(schema["version_hash"])

    utils.validate_stored_schema = check_once
    utils.deepcopy = schemas.deepcopy = clone
    utils.generate_version_hash = hashed_once(utils.generate_version_hash)
    LiveSchemaStorage.__getitem__ = unless_it_is_known(LiveSchemaStorage.__getitem__)
    schemas.validate_dict = by_its_spelling(schemas.validate_dict)


def make_quick() -> None:
    """Once per process, before the first load."""
    duckdb.connect = alone(duckdb.connect)
    plan._COST["n"] = 16
    known: dict[Any, Any] = {}
    for module in [module for name, module in sys.modules.items() if name.startswith(dlt.__name__)]:
        for name in OF_THEIR_ARGUMENTS_ALONE:
            function = vars(module).get(name)
            if function is not None:
                setattr(module, name, known.setdefault(function, remembering(function)))
    fields = functools.cache(lambda spec: tuple(iterate(object.__new__(spec))))
    iterate = BaseConfiguration.__iter__
    BaseConfiguration.__iter__ = lambda self: iter(fields(type(self)))
    BaseConfiguration.__len__ = lambda self: len(fields(type(self)))
    hinted = functools.cache(BaseConfiguration.get_resolvable_fields.__func__)
    BaseConfiguration.get_resolvable_fields = classmethod(lambda spec: dict(hinted(spec)))
    for provider in (EnvironProvider, BaseDocProvider):
        provider.get_key_name = staticmethod(remembering(provider.get_key_name))
    hints = functools.cache(lambda spec: get_type_hints(spec, vars(sys.modules[spec.__module__])))
    validation.get_type_hints = lambda spec, **_: hints(spec)
    for setter in ("set_value", "set_fragment"):
        setattr(BaseDocProvider, setter, forgetting_names(getattr(BaseDocProvider, setter)))
    resolve.resolve_single_provider_value = looking_once(resolve.resolve_single_provider_value)
    Destination.capabilities = capable_as_before(Destination.capabilities)
    Destination.configuration = resolved_as_before(Destination.configuration)
    make_schemas_quick()
    Container._effective_thread_id = in_its_thread(Container._effective_thread_id)
    extract.yaml = types.SimpleNamespace(dump=by_its_spelling(extract.yaml.dump))
    for_each, fit = relational.DataItemNormalizer._validate_normalizer_config, set()

    def fit_once(schema: Any, config: Any) -> None:
        if repr(config) not in fit:
            for_each(schema, config)
            fit.add(repr(config))

    relational.DataItemNormalizer._validate_normalizer_config = staticmethod(fit_once)
    gc.set_threshold(20_000, 20, 50)  # else a tenth of a load is looking for rubbish
    begin = Load.__init__

    def look_often(self: Load, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self._run_loop_sleep_duration = 0.05

    Load.__init__ = look_often
