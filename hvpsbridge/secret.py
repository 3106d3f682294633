"""A secret in memory: a value that hides itself wherever it could be printed, logged or serialised."""

from __future__ import annotations

import hmac
from typing import NoReturn

HIDDEN = "********"


class Secret:
    """Holds a secret text; only :meth:`reveal` gives it back.

    Equality takes the same time wherever the values differ. The value is kept out of ``repr``, ``str``,
    formatting, pickling and iteration, so that a log line or report that includes a configuration by
    mistake shows stars.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret text itself. Callers pass it straight to the library that needs it."""
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
        raise TypeError("a Secret is not serialised")
