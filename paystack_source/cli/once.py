"""How options are declared: those that may be given once, and several as one.

Of two values click would take the last one, without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def once(
    *names: str,
    check: Callable[[click.Context, click.Parameter, Any], Any] | None = None,
    **more: Any,  # noqa: ANN401  # what `click.option` takes
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`click.option(*names, **more)`; two different values are refused, and `check` gets the only one, or `None`."""

    def checked(context: click.Context, option: click.Parameter, values: tuple[Any, ...]) -> Any:  # noqa: ANN401
        if len(set(values)) > 1:
            raise click.BadParameter(f"{' and '.join(map(str, values))}: give one of them")
        value = values[0] if values else None
        return value if check is None else check(context, option, value)

    if "default" in more:
        more["default"] = [more["default"]]
    return click.option(*names, multiple=True, callback=checked, **more)


def together(*decorators: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Several options as one decorator."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate
