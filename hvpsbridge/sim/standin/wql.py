"""Errors of WMI itself, and the conditions of a query."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from hvpsbridge.sim.model import HyperVError, Wmi
from hvpsbridge.sim.standin.cim_class import CimClass

NOT_FOUND = 0x80041002
INVALID_CLASS = 0x80041010
INVALID_QUERY = 0x80041017
INVALID_METHOD = 0x80041055
INVALID_NAMESPACE = 0x8004100E
INVALID_PARAMETER = 0x80041008

_TERM = re.compile(
    r"\s*(\w+)\s*(=|<>|!=|LIKE\b)\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|(\w+))\s*", re.IGNORECASE
)


@dataclass(eq=False)
class CimError(HyperVError):
    """An error of WMI itself."""

    code: int = field(init=False, default=int(Wmi.FAILED))
    message: str = ""
    hresult: int | None = None


def matches(condition: str, row: dict[str, Any], known: CimClass) -> bool:
    """Whether a row meets a WQL condition of comparisons (``=``, ``<>``, ``LIKE``) joined by AND.

    Raises:
        CimError: anything else.
    """
    position = 0
    while True:
        term = _TERM.match(condition, position)
        if term is None:
            raise CimError("Invalid query", INVALID_QUERY)
        name = next((name for name in known.properties if name.lower() == term[1].lower()), None)
        if name is None:
            raise CimError("Invalid query", INVALID_QUERY)
        quoted = term[3] if term[3] is not None else term[4]
        wanted = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else term[5]
        # WQL ignores case (docs/hyperv-facts.md#wql).
        if term[2].upper() == "LIKE":
            met = _like(str(row[name]), wanted)
        else:
            met = (str(row[name]).lower() == wanted.lower()) is (term[2] == "=")
        if not met:
            return False
        position = term.end()
        if position == len(condition):
            return True
        joined = re.compile(r"AND\b", re.IGNORECASE).match(condition, position)
        if joined is None:
            raise CimError("Invalid query", INVALID_QUERY)
        position = joined.end()


def _like(value: str, pattern: str) -> bool:
    """``%`` matches any characters and ``_`` one, as in WQL; sets in brackets are not supported."""
    parts = {"%": ".*", "_": "."}
    expression = "".join(parts.get(character) or re.escape(character) for character in pattern)
    return re.fullmatch(expression, value, re.IGNORECASE | re.DOTALL) is not None
