"""The shape of a WMI class."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Method:
    """CIM types of a method's parameters by name. ``ref:`` types are references to a class."""

    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class CimClass:
    """A class: CIM types of properties by name, the names of key properties, and methods."""

    namespace: str
    key: tuple[str, ...]
    properties: dict[str, str]
    methods: dict[str, Method] = field(default_factory=dict)
