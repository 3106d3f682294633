"""Command-line options made from options dataclasses: type, bounds, choices, default and help text."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import click

from hvpsbridge.options import DeclaredOption, Option, Unit, options_of
from hvpsbridge.units import parse_duration, parse_size, plain_duration, plain_size, size_text

_Command = TypeVar("_Command", bound=Callable[..., Any])


class OptionGroup:
    """Options of a command for fields of an options dataclass. Used as a decorator.

    Args:
        kind: the dataclass.
        flags: spellings for each field, such as ``--user -u``.
        old_flags: earlier spellings, still accepted but not shown.
        with_defaults: whether the help shows defaults; false if they come from elsewhere.
    """

    def __init__(
        self,
        kind: type,
        flags: Mapping[str, str],
        *,
        old_flags: Mapping[str, str] | None = None,
        with_defaults: bool = True,
    ) -> None:
        declared = options_of(kind)
        old = old_flags or {}
        self._options = {
            name: _click_option(declared[name], spellings.split(), old.get(name, "").split(), with_defaults)
            for name, spellings in flags.items()
        }

    def __call__(self, command: _Command) -> _Command:
        for make in reversed(self._options.values()):
            command = make.decorate(command)
        return command

    def given(self, options: dict[str, Any]) -> dict[str, Any]:
        """What the command line gives, by field; removed from ``options``."""
        values = {name: options.pop(option.parameter) for name, option in self._options.items()}
        return {name: value for name, value in values.items() if value not in (None, ())}


@dataclasses.dataclass(frozen=True, slots=True)
class _Made:
    parameter: str
    decorate: Callable[[Any], Any]


class _WithOldSpellings(click.Option):
    """An option whose help and errors show only its current spellings."""

    def __init__(self, *args: Any, old: tuple[str, ...] = (), **more: Any) -> None:
        super().__init__(*args, **more)
        self._current = [spelling for spelling in self.opts if spelling not in old]

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record: tuple[str, str] | None = self._currently(super().get_help_record, ctx)
        return record

    def get_error_hint(self, ctx: click.Context | None) -> str:
        hint: str = self._currently(super().get_error_hint, ctx)
        return hint

    def _currently(self, ask: Callable[[Any], Any], ctx: click.Context | None) -> Any:
        every, self.opts = self.opts, self._current
        try:
            return ask(ctx)
        finally:
            self.opts = every


def _click_option(one: DeclaredOption, flags: list[str], old: list[str], with_default: bool) -> _Made:
    name = max(flags, key=len).removeprefix("--").replace("-", "_")
    facts = _facts(one)
    text = one.option.description
    text = f"{text[:1].upper()}{text[1:]}.".replace("`", "")
    default = _default_text(one) if with_default else ""
    facts["help"] = f"{text}  [default: {default}]" if default else text
    decorate = click.option(*flags, *old, name, cls=_WithOldSpellings, old=tuple(old), **facts)
    return _Made(name, decorate)


def _facts(one: DeclaredOption) -> dict[str, Any]:
    """Arguments for click; the callback makes the value that the field takes."""
    kinds = [kind for kind in typing.get_args(one.kind) or (one.kind,) if kind not in (type(None), ...)]
    kind, option = kinds[0], one.option
    several = typing.get_origin(one.kind) is tuple
    if kind is bool:
        return {"is_flag": True, "default": None}
    if option.form is not None:
        read = callback_of(option.form.read, several=several)
        return {"multiple": several, "metavar": option.form.metavar, "callback": read}
    if option.unit is Unit.BYTES:
        return {"metavar": "SIZE", "callback": callback_of(lambda text: _within(option, parse_size(text)))}
    if option.unit is Unit.SECONDS:
        return {"metavar": "DURATION", "callback": callback_of(parse_duration)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        choice = click.Choice([member.value for member in kind])
        return {"type": choice, "callback": callback_of(kind)}
    if kind is int:
        return {"type": click.IntRange(_whole(option.at_least), _whole(option.at_most))}
    if kind is Path:
        return {"type": click.Path(path_type=Path)}
    return {"multiple": several}


def callback_of(read: Callable[[Any], Any], *, several: bool = False) -> Callable[..., Any]:
    """A callback for an option of click, whose ``ValueError`` is an error about that option.

    Args:
        read: makes the value that the command gets; not called for an option that is not given.
        several: call it for each value of an option that may be repeated.
    """

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value is None:
            return None
        try:
            return tuple(map(read, value)) if several else read(value)
        except ValueError as err:
            raise click.BadParameter(str(err), context, parameter) from err

    return callback


def _within(option: Option, value: int) -> int:
    least, most = option.at_least, option.at_most
    if least is not None and most is not None and not least <= value <= most:
        raise ValueError(f"must be between {size_text(int(least))} and {size_text(int(most))}")
    if least is not None and value < least:
        raise ValueError(f"must be at least {size_text(int(least))}")
    return value


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


def _default_text(one: DeclaredOption) -> str:
    value = one.default
    if value is None or isinstance(value, bool | tuple) or value is dataclasses.MISSING:
        return ""
    if one.option.unit is Unit.BYTES:
        return plain_size(typing.cast(int, value))
    if one.option.unit is Unit.SECONDS:
        return plain_duration(typing.cast(float, value))
    return str(value.value if isinstance(value, Enum) else value)
