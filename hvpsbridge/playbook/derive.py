"""From options dataclasses to what pydantic checks: each field's type and :class:`Option` give the rules.

The dataclasses stay plain. A model with the same name and fields is made beside each; what it reads becomes
an instance of the dataclass itself, so that checks in ``__post_init__`` run too.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import make_dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from hvpsbridge.options import DeclaredOption, Option, TextForm, Unit, options_of
from hvpsbridge.playbook.types import FORM, Duration, FilePath, Flag, Size, Text, Whole, check_text
from hvpsbridge.tasks.registry import TASKS

_CHECKS = ConfigDict(extra="forbid", arbitrary_types_allowed=False)


def model(kind: type) -> Any:
    """An annotation by which pydantic reads an options dataclass.

    A class that pydantic cannot read field by field has a ``playbook_model`` that gives the annotation.
    """
    special = getattr(kind, "playbook_model", None)
    return _plain_model(kind, tuple(TASKS)) if special is None else special()


@functools.cache
def _plain_model(kind: type, task_kinds: tuple[str, ...]) -> Any:
    about = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    made = model_class(kind.__name__, about, options_of(kind).values())
    return Annotated[made, AfterValidator(_maker(kind))]


def model_class(name: str, about: str, options: typing.Iterable[DeclaredOption]) -> type:
    """A dataclass that pydantic can check, with a field for each option."""
    made = make_dataclass(
        name,
        [(one.name, annotation(one.kind, one.option), _default(one)) for one in options],
        kw_only=True,
        namespace={"__pydantic_config__": _CHECKS},
    )
    made.__doc__ = about
    return made


def _maker(kind: type) -> Callable[[Any], Any]:
    def make(read: Any) -> Any:
        return kind(**{field.name: getattr(read, field.name) for field in dataclasses.fields(read)})

    return make


def _default(one: DeclaredOption) -> Any:
    if one.field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=one.field.default_factory)
    return dataclasses.field(default=one.field.default)


def annotation(kind: Any, option: Option) -> Any:
    """The annotation of one option: what it takes, its bounds and its description."""
    return Annotated[_converted(kind, option), Field(description=option.description)]


def _converted(kind: Any, option: Option) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _with_own_rules(arguments[0], arguments[1:], option)
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, (_converted(each, option) for each in arguments))
    if origin is Literal or kind is types.NoneType:
        return kind
    is_list = origin is tuple and arguments[1:] == (Ellipsis,)
    if option.form is not None and not is_list:
        return _of_form(kind, option.form)
    items = Field(min_length=option.min_items or None)
    if is_list:
        return Annotated[_Tuple[_converted(arguments[0], option), ...], items]
    if origin is not None and issubclass(origin, Mapping):
        values = _converted(arguments[1], option)
        return Annotated[_Mapping[str, values], items, AfterValidator(_frozen)]
    if dataclasses.is_dataclass(kind):
        return _with_shorthand(model(typing.cast(type, kind)), option)
    if issubclass(kind, Enum):
        return kind
    bounds = Field(ge=option.at_least, le=option.at_most, gt=option.more_than)
    return Annotated[_number_or_text(kind, option), bounds]


# Made at run time, where a type checker expects types.
_Tuple: Any = tuple
_Mapping: Any = Mapping


def _with_own_rules(inner: Any, rules: tuple[Any, ...], option: Option) -> Any:
    """A type that brings pydantic's rules along; a dataclass in it is still made a model."""
    return Annotated[(_converted(inner, option) if dataclasses.is_dataclass(inner) else inner, *rules)]


def _number_or_text(kind: type, option: Option) -> Any:
    if option.unit is not None:
        return Size if option.unit is Unit.BYTES else Duration
    return {bool: Flag, int: Whole, str: Text, Path: FilePath}[kind]


def _of_form(kind: Any, form: TextForm) -> Any:
    def read(value: object) -> object:
        return form.read(check_text(value, form.examples))

    schema: dict[str, Any] = {"type": "string", FORM: form.name}
    if form.pattern:
        schema["pattern"] = form.pattern
    if form.examples:
        schema["examples"] = list(form.examples)
    return Annotated[kind, BeforeValidator(read), WithJsonSchema(schema)]


def _with_shorthand(read: Any, option: Option) -> Any:
    """The word of the option may stand for an empty group."""
    word = option.shorthand
    if not word:
        return read

    def expand(value: object) -> object:
        return {} if value == word else value

    either = operator.or_(Literal[word], read)
    return Annotated[read, BeforeValidator(expand, json_schema_input_type=either)]


def _frozen(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))
