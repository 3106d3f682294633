"""Frozen dataclasses as canonical JSON and back, strictly.

A value has exactly one text. Keys are sorted, there is no white space, text is UTF-8, bytes are lower-case
hex, UUIDs have their usual text, times are ISO 8601 in UTC with microseconds. A field that has its default
value is left out, so adding a field with a default changes neither the text nor the digest of older records.
A missing or unknown key or a wrong type is an error: guessing would hide damage. Digests of records, such as
a manifest's, are of this text.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache, partial
from typing import Any, TypeVar
from uuid import UUID

from hvpsbridge.formats.malformed import Malformed, UnknownFields

T = TypeVar("T")
# Takes a JSON value and its place in the record, for error messages.
Decoder = Callable[[Any, str], Any]
# 2^64 has 20; times and sizes fit.
MAX_INTEGER_DIGITS = 20
# A list of bad frames has 16384 objects with four texts each. An empty list takes 64 bytes in memory, a text
# 50.
MAX_CONTAINERS = 200_000
MAX_TEXTS = 500_000
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


def encode_record(value: object) -> bytes:
    """Canonical JSON of a dataclass.

    Its fields are records, numbers, text, bytes, UUIDs, times, enums, tuples of those, or None.

    Raises:
        Malformed: text has half a surrogate, or a number is not finite or has too many digits.
    """
    try:
        text = json.dumps(
            _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        data = text.encode()
        _check_count(data)
        return data
    except UnicodeEncodeError as err:
        raise Malformed(f"{type(value).__name__}: text that is not valid Unicode") from err
    except Malformed:
        raise
    except ValueError as err:
        raise Malformed(f"{type(value).__name__}: {err}") from err


def decode_record(kind: type[T], data: bytes | bytearray | memoryview) -> T:
    """The ``kind`` in ``data``.

    Raises:
        Malformed: the bytes are not the canonical text of a ``kind``.
    """
    raw = bytes(data)
    try:
        loose = parse_json(raw)
    except Malformed as err:
        raise Malformed(f"{kind.__name__}: {err}") from err
    value = _decoder(typing.cast(Any, kind))(loose, kind.__name__)
    if encode_record(value) != raw:
        raise Malformed(f"{kind.__name__}: the JSON text is not canonical")
    return typing.cast(T, value)


def parse_json(data: bytes) -> Any:
    """The JSON value in ``data``. It takes a few times its length in memory.

    Raises:
        Malformed: it is not JSON, is nested too deeply, or has too many values or a number that is not finite
            or does not fit.
    """
    _check_count(data)
    try:
        return json.loads(data, parse_int=_parse_int, parse_float=_parse_float, parse_constant=_no_constant)
    except (UnicodeDecodeError, json.JSONDecodeError) as err:
        raise Malformed(f"not JSON: {err}") from err
    except RecursionError as err:
        raise Malformed("JSON that is nested too deeply") from err


def _check_count(data: bytes) -> None:
    """Check that there are not so many values that they take far more memory than their text."""
    containers = data.count(b"[") + data.count(b"{")
    texts = (data.count(b'"') - data.count(b'\\"')) // 2
    if containers > MAX_CONTAINERS or texts > MAX_TEXTS:
        raise Malformed(f"too many values: {containers} lists and objects, {texts} texts")


def _parse_int(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise Malformed(f"a number of {len(text)} digits")
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Malformed(f"the number {text[:20]} is too large")
    return value


def _no_constant(text: str) -> float:
    raise Malformed(f"the number {text}")


# Written to JSON as they are. Exact types, since an Enum may be an int or a str, too.
_AS_IT_IS = frozenset({type(None), bool, int, str, float})


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is bytes:
        return value.hex()
    if kind is UUID:
        return str(value)
    if kind is tuple:
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime(_TIME)
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(kind):
        return {
            field.name: _plain(held)
            for field in _fields(kind)
            if (held := getattr(value, field.name)) != field.default or field.default is MISSING
        }
    raise TypeError(f"{kind.__name__} cannot be part of a record")


@cache
def _fields(kind: Any) -> tuple[Field[Any], ...]:
    return fields(kind)


@cache
def _decoder(kind: Any) -> Decoder:
    """The function that turns a JSON value into a ``kind``; made once for each type."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (arg for arg in typing.get_args(kind) if arg is not type(None))
        decode = _decoder(inner)
        return lambda value, where: None if value is None else decode(value, where)
    if origin is tuple:
        return partial(_items, _decoder(typing.get_args(kind)[0]))
    if is_dataclass(kind):
        return partial(_dataclass, kind)
    if kind in (int, bool, str):
        return partial(_exact, kind)
    if kind is float:
        return _number
    return partial(_scalar, kind)


def _items(decode: Decoder, value: Any, where: str) -> Any:
    if not isinstance(value, list):
        raise Malformed(f"{where}: not a list")
    return tuple([decode(item, f"{where}[{index}]") for index, item in enumerate(value)])


def _exact(kind: type, value: Any, where: str) -> Any:
    if type(value) is not kind:
        raise Malformed(f"{where}: {type(value).__name__} instead of {kind.__name__}")
    return value


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float):
        raise Malformed(f"{where}: not a number")
    return float(value)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, str | int):
        raise Malformed(f"{where}: {type(value).__name__} instead of {kind.__name__}")
    try:
        if kind is bytes:
            return bytes.fromhex(str(value))
        if kind is UUID:
            return UUID(str(value))
        if kind is datetime:
            return datetime.strptime(str(value), _TIME).replace(tzinfo=UTC)
        if issubclass(kind, Enum):
            return kind(value)
    except (ValueError, TypeError) as err:
        raise Malformed(f"{where}: {err}") from err
    raise TypeError(f"{kind} cannot be part of a record")


@cache
def _shape(kind: Any) -> tuple[dict[str, Decoder], frozenset[str]]:
    """Decoders of a dataclass's fields by name, and the required fields."""
    hints = typing.get_type_hints(kind)
    needed = frozenset(field.name for field in fields(kind) if field.default is MISSING)
    return {field.name: _decoder(hints[field.name]) for field in fields(kind)}, needed


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise Malformed(f"{where}: not an object")
    decoders, needed = _shape(kind)
    if unknown := sorted(value.keys() - decoders.keys()):
        raise UnknownFields(f"{where} has unknown fields {', '.join(unknown)}")
    if missing := sorted(needed - value.keys()):
        raise Malformed(f"{where}: fields {', '.join(missing)} are missing")
    return kind(**{name: decoders[name](item, f"{where}.{name}") for name, item in value.items()})
