"""The portable definition of a VM: JSON text from the host, and what is missing in it.

The host names in ``problems`` each section that it could not read; the section itself is null. A definition
comes from a repository, and so from a host: the readers here take a value of another type as missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# Letters of a section's name or an error, at most; both come from a host.
MAX_LETTERS = 200
# Microsoft.HyperV.PowerShell.ControllerType
CONTROLLERS = {0: "ide", 1: "scsi", 2: "pmem"}


def without_sections(error: str, message: str) -> str:
    """A definition of which no section could be read."""
    problem = {"section": "definition", "error": error, "message": message}
    return json.dumps({"format": 1, "problems": [problem]}, separators=(",", ":"))


def missing_sections(definition: str) -> tuple[str, ...]:
    """What a definition lacks: a section and why, one line each; empty if nothing is known to be missing."""
    if not definition:
        return ()
    try:
        found = json.loads(definition)
    except (ValueError, RecursionError):
        return ("all of it (not JSON)",)
    return tuple(dict.fromkeys(_lines(rows_of(table_of(found).get("problems")))))


def disk_of(definition: str, slot: str) -> Mapping[str, Any]:
    """What the definition has of a disk: its fields, and those of its file under ``Vhd`` and ``Base``.

    Args:
        definition: of the VM.
        slot: of the disk, for example ``scsi 0:1``.

    Returns:
        Empty if the definition has no such disk, or cannot be read.
    """
    return next((disk for disk in rows_of(sections_of(definition).get("disks")) if slot_of(disk) == slot), {})


def generation_of(definition: str) -> int:
    """Generation of the VM, 1 or 2; 0 if the definition does not have it."""
    return number_in(table_of(sections_of(definition).get("vm")), "Generation") or 0


def slot_of(disk: Mapping[str, Any]) -> str | None:
    """Slot of a disk or a boot device, for example ``scsi 0:1``; None if it is at no controller of disks."""
    kind = number_in(disk, "ControllerType")
    if kind is None or kind not in CONTROLLERS:
        return None
    return f"{CONTROLLERS[kind]} {disk.get('ControllerNumber')}:{disk.get('ControllerLocation')}"


def sections_of(definition: str) -> Mapping[str, Any]:
    """Sections of the definition by name; none if it is not a JSON object."""
    try:
        return table_of(json.loads(definition))
    except (ValueError, RecursionError):
        return {}


def table_of(value: object) -> Mapping[str, Any]:
    """The value if it is an object; else an empty one."""
    return value if isinstance(value, dict) else {}


def rows_of(value: object) -> list[Mapping[str, Any]]:
    """Members of a list that are objects; none if the value is not a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def number_in(found: Mapping[str, Any], name: str) -> int | None:
    """A number; None if it is not one, negative, or longer than 63 bits."""
    value = found.get(name)
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def flag_in(found: Mapping[str, Any], name: str) -> bool | None:
    """True or false; None if it is neither."""
    value = found.get(name)
    return value if isinstance(value, bool) else None


def text_in(found: Mapping[str, Any], name: str) -> str | None:
    """A text, which may be empty; None if it is not one."""
    value = found.get(name)
    return value if isinstance(value, str) else None


def _lines(problems: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for problem in problems:
        section, error = str(problem.get("section")), str(problem.get("error"))
        yield f"{section[:MAX_LETTERS]} ({error[:MAX_LETTERS]})"
