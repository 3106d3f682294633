"""Converts between CLIXML values and the types of the contract.

Parameters are sent with the type that the script declares. Objects that come back become the result dataclass
of the operation. The conversion is strict: a missing or unknown field, or one of another type, is an error.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from hvpsbridge.contract import Operation
from hvpsbridge.errors import InternalError
from hvpsbridge.units import MIB

TYPE_PREFIX = "Hvps."
# Longer values are refused, since recovery points and reports keep them. A path of Windows has up to 32,767
# letters; a chain has a file for each checkpoint, of which a VM can have 50.
MAX_TEXT = 32_768
MAX_ITEMS = 4096
# By property, where more is needed.
MAX_LETTERS = {"Json": 4 * MIB}
# Letters of a host's text in an error.
MAX_SHOWN = 200
_INT32 = range(-(1 << 31), 1 << 31)
_UINT64 = range(1 << 64)


class BindingError(ValueError):
    """A value does not have the form that the contract states."""


class Tagged:
    """A parameter value with the CLIXML tag to send it with (``U64``, ``G``)."""

    __slots__ = ("tag", "value")

    def __init__(self, tag: str, value: object) -> None:
        self.tag = tag
        self.value = value


# -- parameters ------------------------------------------------------------------------------------------


def bind_parameters(operation: Operation, values: Mapping[str, object]) -> dict[str, object]:
    """``values`` by parameter name, ready to send: numbers have the tag of the declared width.

    Raises:
        InternalError: a name is unknown, a required one is missing, or a value does not fit its type.
    """
    known = {parameter.name: parameter for parameter in operation.parameters}
    if unknown := values.keys() - known.keys():
        raise InternalError(f"{operation.name} has no parameter {', '.join(sorted(unknown))}")
    bound: dict[str, object] = {}
    for name, parameter in known.items():
        if values.get(name) is None:
            if parameter.required:
                raise InternalError(f"{operation.name} needs {name}")
            continue
        try:
            bound[name] = _OUT[parameter.type](values[name])
        except (TypeError, ValueError) as err:
            raise InternalError(f"{operation.name} {name}: {err}") from err
    return bound


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {type(value).__name__}")
    return str(value)


def _flag(value: object) -> object:
    if not isinstance(value, bool):
        raise TypeError(f"expected a bool, not {type(value).__name__}")
    return value


def _bytes(value: object) -> object:
    if not isinstance(value, bytes) or not value:
        raise TypeError("expected bytes, at least one")
    return value


def _number(value: object, allowed: range) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected a whole number, not {type(value).__name__}")
    if value not in allowed:
        raise ValueError(f"{value} is out of range")
    return value


_OUT: dict[str, Any] = {
    "string": _text,
    "guid": lambda value: Tagged("G", str(UUID(str(value)))),
    "uint64": lambda value: Tagged("U64", _number(value, _UINT64)),
    "int": lambda value: _number(value, _INT32),
    "bool": _flag,
    "string[]": lambda value: [_text(item) for item in value],
    "byte[]": _bytes,
}


# -- results --------------------------------------------------------------------------------------------


def pascal_case(field: str) -> str:
    """The PowerShell property of a dataclass field: ``VmId`` for ``vm_id``."""
    return "".join(part.capitalize() for part in field.split("_"))


@cache
def _shape(result: type) -> tuple[tuple[str, str, Any], ...]:
    hints = get_type_hints(result)
    return tuple((field.name, pascal_case(field.name), hints[field.name]) for field in fields(result))


def bind_result(result: type, type_names: list[str], properties: Mapping[str, object]) -> Any:
    """A ``result`` from an emitted object.

    Args:
        result: dataclass of ``contract.results``.
        type_names: type names of the object, most derived first.
        properties: its note properties, as the PSRP client returns them.

    Raises:
        BindingError: the object has another type, or a field is missing, unknown or of another type.
    """
    wanted = TYPE_PREFIX + result.__name__
    if not type_names or type_names[0] != wanted:
        came = type_names[0] if type_names else "an object without type"
        raise BindingError(f"expected {wanted}, not {came[:MAX_SHOWN]}")
    shape = _shape(result)
    expected = {name for _, name, _ in shape}
    if missing := expected - properties.keys():
        raise BindingError(f"{wanted} has no {', '.join(sorted(missing))}")
    if unknown := properties.keys() - expected:
        raise BindingError(f"{wanted} has unknown {', '.join(sorted(unknown))[:MAX_SHOWN]}")
    values = {}
    for field, name, hint in shape:
        try:
            value = properties[name]
            longest = MAX_LETTERS.get(name, MAX_TEXT)
            if isinstance(value, str) and len(value) > longest:
                raise ValueError(f"has {len(value)} letters, at most {longest} are read")
            values[field] = _value(hint, value)
        except (TypeError, ValueError, OverflowError) as err:
            raise BindingError(f"{wanted}.{name}: {err}") from err
    return result(**values)


def _value(hint: Any, value: object) -> object:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (hint,) = (part for part in get_args(hint) if part is not type(None))
        origin = get_origin(hint)
    if value is None:
        raise ValueError("is null")
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"expected an array, not {type(value).__name__}")
        if len(value) > MAX_ITEMS:
            raise ValueError(f"has {len(value)} items, at most {MAX_ITEMS} are read")
        if any(isinstance(item, str) and len(item) > MAX_TEXT for item in value):
            raise ValueError(f"has an item of more than {MAX_TEXT} letters")
        return tuple(_value(get_args(hint)[0], item) for item in value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(_plain(str, value))
    if hint is UUID:
        return _uuid(_plain(str, value))
    if hint is datetime:
        return _time(_plain(str, value))
    if hint is float:
        return float(_plain(float, float(value) if type(value) is int else value))
    return _plain(hint, value)


def _plain(hint: type, value: object) -> Any:
    # isinstance accepts a bool as an int; on the wire they are different types.
    if type(value) is not hint:
        raise TypeError(f"expected {hint.__name__}, not {type(value).__name__}")
    if hint is int and value not in _UINT64:
        raise ValueError(f"{value} does not fit into a uint64")
    return value


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _uuid(text: str) -> UUID:
    if _UUID.fullmatch(text) is None:
        raise ValueError(f"{text[:60]!r} is not a lower-case guid")
    return UUID(text)


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() is None:
        raise ValueError(f"{text[:60]!r} has no time zone")
    return moment.astimezone(UTC)
