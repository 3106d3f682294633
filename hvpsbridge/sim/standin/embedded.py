"""Embedded WMI instances: CIM-XML text in parameters (docs/hyperv-facts.md#embedded-instances)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from typing import Any

from hvpsbridge.sim.model import HyperVError, Wmi

_INSTANCE = re.compile(r"\s*<INSTANCE CLASSNAME=\"(\w+)\"\s*>(.*)</INSTANCE>\s*", re.DOTALL)
_PROPERTY = re.compile(
    r"\s*<PROPERTY NAME=\"(\w+)\" TYPE=\"(\w+)\"\s*>\s*<VALUE>([^<]*)</VALUE>\s*</PROPERTY>\s*"
)
_ARRAY = re.compile(
    r"\s*<PROPERTY\.ARRAY NAME=\"(\w+)\" TYPE=\"(\w+)\"\s*>\s*<VALUE\.ARRAY>(.*?)</VALUE\.ARRAY>\s*"
    r"</PROPERTY\.ARRAY>\s*",
    re.DOTALL,
)
_VALUE = re.compile(r"<VALUE>([^<]*)</VALUE>")


def embedded(
    value: Any, classes: Mapping[str, Mapping[str, str]], defaults: Mapping[str, str] | None = None
) -> tuple[str, dict[str, Any]]:
    """Class and properties of an embedded instance; the only class and the defaults if it is empty.

    Args:
        value: the text.
        classes: those that it may be of, with the types of their properties.
        defaults: values of properties that it does not have.

    Raises:
        HyperVError: the text, the class or the type of a property is wrong.
    """
    found: dict[str, Any] = dict(defaults or {})
    if not value:
        return next(iter(classes)), found
    wrong = HyperVError(Wmi.INVALID_PARAMETER, "")
    whole = _INSTANCE.fullmatch(str(value))
    if whole is None or whole[1] not in classes:
        raise wrong
    known, position = classes[whole[1]], 0
    while position < len(whole[2]):
        kind: str = ""
        content: object = None
        if one := _PROPERTY.match(whole[2], position):
            kind, content = one[2], unescape(one[3])
        elif one := _ARRAY.match(whole[2], position):
            kind, content = one[2] + "[]", [unescape(each) for each in _VALUE.findall(one[3])]
        if one is None or known.get(one[1]) != kind:
            raise wrong
        found[one[1]] = content
        position = one.end()
    return whole[1], found
