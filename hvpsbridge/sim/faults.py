"""Faults of the wire, by name and count, as described in ``faults.yaml``.

The WSMan service calls :meth:`WireFaults.fire` wherever a fault can happen. Nothing happens until a test or
``hvps sim fault`` arms one. No other module of the simulator reads YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock

import yaml

TABLE = Path(__file__).with_name("faults.yaml")
ANY = "any"
_COMMON: Mapping[str, object] = {"action": ANY, "after": 0}


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A fault of the table. ``parameters`` are names with defaults, including ``action`` and ``after``."""

    name: str
    where: str
    what: str
    parameters: Mapping[str, object]


@cache
def fault_table() -> Mapping[str, FaultKind]:
    """All faults of the wire, by name."""
    rows = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {
        name: FaultKind(
            name,
            row["where"],
            " ".join(row["what"].split()),
            {**_COMMON, "action": row.get("action", ANY), **row.get("parameters", {})},
        )
        for name, row in rows.items()
    }


@dataclass(frozen=True, slots=True)
class FiredFault:
    """A fault that happens now."""

    name: str
    parameters: Mapping[str, object]

    def number(self, name: str) -> float:
        """A parameter as a number."""
        value = self.parameters[name]
        assert isinstance(value, int | float)
        return value

    def flag(self, name: str) -> bool:
        """A parameter as a bool."""
        return bool(self.parameters[name])


@dataclass(slots=True)
class _Armed:
    kind: FaultKind
    parameters: dict[str, object]
    left: int
    to_pass: int = field(default=0)


class WireFaults:
    """Faults that are armed on one host. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._armed: list[_Armed] = []
        self.fired: dict[str, int] = {}

    def arm(self, name: str, count: int = 1, **parameters: object) -> None:
        """Make fault ``name`` happen the next ``count`` times; 0 disarms it.

        Raises:
            ValueError: there is no such fault, or it has no such parameter.
        """
        kind = fault_table().get(name)
        if kind is None:
            raise ValueError(f"unknown fault {name!r}; hvps sim fault --known lists all faults")
        if unknown := sorted(parameters.keys() - kind.parameters.keys()):
            known = ", ".join(sorted(kind.parameters))
            raise ValueError(f"fault {name} has no parameter {', '.join(unknown)}; use {known}")
        given = {key: _like(kind.parameters[key], key, value) for key, value in parameters.items()}
        whole = {**kind.parameters, **given}
        after = whole["after"]
        assert isinstance(after, int)
        with self._lock:
            if count == 0:
                self._armed = [armed for armed in self._armed if armed.kind.name != name]
            else:
                self._armed.append(_Armed(kind, whole, count, after))

    def arm_text(self, text: str, count: int = 1) -> None:
        """As :meth:`arm`, from ``name`` or ``name:key=value,key=value``.

        Raises:
            ValueError: the text names no fault or parameter.
        """
        name, _, settings = text.partition(":")
        parameters: dict[str, object] = {}
        for setting in filter(None, settings.split(",")):
            key, equals, value = setting.partition("=")
            if not equals:
                raise ValueError(f"{setting!r} is not key=value")
            parameters[key.strip()] = value.strip()
        self.arm(name.strip(), count, **parameters)

    def fire(self, where: str, action: str) -> FiredFault | None:
        """The fault that happens here, if one is armed; it is counted down."""
        if not self._armed:
            return None
        with self._lock:
            for armed in self._armed:
                if armed.kind.where != where or armed.parameters["action"] not in (ANY, action):
                    continue
                if armed.to_pass:
                    armed.to_pass -= 1
                    continue
                armed.left -= 1
                if not armed.left:
                    self._armed.remove(armed)
                name = armed.kind.name
                self.fired[name] = self.fired.get(name, 0) + 1
                return FiredFault(name, armed.parameters)
        return None

    @property
    def any_armed(self) -> bool:
        """Whether a fault is armed."""
        return bool(self._armed)

    def armed(self) -> dict[str, int]:
        """Armed faults and how many times each will happen."""
        with self._lock:
            counts: dict[str, int] = {}
            for armed in self._armed:
                counts[armed.kind.name] = counts.get(armed.kind.name, 0) + armed.left
            return counts


def _like(model: object, key: str, value: object) -> object:
    """``value``, which may be text, in the type of a default.

    Raises:
        ValueError: it does not fit.
    """
    if isinstance(model, bool):
        if isinstance(value, bool):
            return value
        words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
        if str(value).lower() in words:
            return words[str(value).lower()]
    elif isinstance(model, str):
        return str(value)
    elif isinstance(model, int | float):
        try:
            number = float(str(value))
        except ValueError:
            number = -1.0
        if number >= 0:
            return int(number) if isinstance(model, int) else number
    raise ValueError(f"{key} takes a {type(model).__name__}, not {value!r}")
