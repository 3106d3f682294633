"""What a field of an options dataclass says about itself.

Playbook keys, their JSON Schema and documentation, and command-line options derive from it. The dataclass
with the behaviour declares everything once::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class PruneOptions:
        keep_daily: Annotated[int, Option("daily recovery points to keep", at_least=0)] = 7

A field without an :class:`Option` is internal: no playbook and no command line can set it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Unit(StrEnum):
    """Unit of a number that people write with a suffix, such as ``4GiB`` or ``15m``."""

    BYTES = "bytes"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextForm:
    """Text of a form of its own.

    Attributes:
        read: makes the value of the text; raises ValueError with what to write instead.
        name: of the form, for the documentation.
        pattern: regular expression for the JSON Schema; empty for none.
        examples: texts of this form.
        metavar: what the help of a command calls it.
    """

    read: Callable[[str], object]
    name: str
    pattern: str = ""
    examples: tuple[str, ...] = ()
    metavar: str = "TEXT"


@dataclass(frozen=True, slots=True)
class Option:
    """Metadata of a field, in ``Annotated``; its default is the field's own.

    Attributes:
        description: a noun phrase or a condition, small first letter, no full stop.
        unit: of a number.
        at_least, at_most, more_than: bounds of a number.
        min_items: of a list or mapping.
        form: of text that is more than a word; of each item, in a list of text.
        shorthand: a word that may stand for a group of options when all have their defaults.
    """

    description: str
    unit: Unit | None = None
    at_least: float | None = None
    at_most: float | None = None
    more_than: float | None = None
    min_items: int = 0
    form: TextForm | None = None
    shorthand: str = ""


@dataclass(frozen=True, slots=True)
class DeclaredOption:
    """An option of a dataclass: the field's name, its type without the metadata, and the metadata."""

    name: str
    kind: Any
    option: Option
    field: dataclasses.Field[Any]

    @property
    def default(self) -> object:
        """The field's default; ``dataclasses.MISSING`` when it must be given."""
        if self.field.default_factory is not dataclasses.MISSING:
            return self.field.default_factory()
        return self.field.default


def options_of(kind: type) -> Mapping[str, DeclaredOption]:
    """Options that a dataclass declares, by name, in its order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found: dict[str, DeclaredOption] = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        metadata = getattr(hint, "__metadata__", ())
        option = next((one for one in metadata if isinstance(one, Option)), None)
        if option is not None:
            others = tuple(one for one in metadata if one is not option)
            bare = hint.__origin__
            kind_of = typing.Annotated[(bare, *others)] if others else bare
            found[field.name] = DeclaredOption(field.name, kind_of, option, field)
    return found
