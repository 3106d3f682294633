"""A secret that hides itself when it is printed, logged or serialised, and words that never are secret."""

from __future__ import annotations

import hmac
from typing import NoReturn

HIDDEN = "********"


class Word(str):
    """A word of hvps itself, such as the kind of a task. Redaction leaves it alone wherever it is printed."""

    __slots__ = ()


class Secret:
    """A secret text. Only :meth:`reveal` returns it.

    ``repr``, ``str`` and formatting give stars, and pickling fails, so that a configuration that is logged or
    reported by mistake reveals nothing. Comparing takes the same time wherever the values differ.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself. Pass it straight to the library that needs it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN!r})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be serialised")
