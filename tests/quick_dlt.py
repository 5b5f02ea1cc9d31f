"""Makes dlt's loads cheaper in tests, where they have few rows and their cost is dlt's own work.

dlt looks up each setting anew for each step of a load: functions that depend on their arguments alone are called with
the same ones 10,000 times a load. They remember their answers here. dlt also looks once a second whether the steps of
a lake table are done.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import dlt
from dlt.common.configuration.providers.doc import BaseDocProvider
from dlt.common.configuration.providers.environ import EnvironProvider
from dlt.load import Load

OF_THEIR_ARGUMENTS_ALONE = (
    "extract_inner_hint",
    "is_base_configuration_inner_hint",
    "is_context_inner_hint",
    "is_hint_not_resolvable",
    "is_secret_hint",
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


def make_quick() -> None:
    """Once per process, before the first load."""
    known: dict[Any, Any] = {}
    for module in [module for name, module in sys.modules.items() if name.startswith(dlt.__name__)]:
        for name in OF_THEIR_ARGUMENTS_ALONE:
            function = vars(module).get(name)
            if function is not None:
                setattr(module, name, known.setdefault(function, remembering(function)))
    for provider in (EnvironProvider, BaseDocProvider):
        provider.get_key_name = staticmethod(remembering(provider.get_key_name))
    begin = Load.__init__

    def look_often(self: Load, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self._run_loop_sleep_duration = 0.02

    Load.__init__ = look_often
