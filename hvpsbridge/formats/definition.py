"""The portable definition of a VM: JSON text from the host, and what is missing in it.

The host names in ``problems`` each section that it could not read; the section itself is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
    problems = found.get("problems") if isinstance(found, dict) else None
    return tuple(dict.fromkeys(_lines(problems if isinstance(problems, list) else [])))


def disk_of(definition: str, slot: str) -> Mapping[str, Any]:
    """What the definition has of a disk: its fields, and those of its file under ``Vhd`` and ``Base``.

    Args:
        definition: of the VM.
        slot: of the disk, for example ``scsi 0:1``.

    Returns:
        Empty if the definition has no such disk, or cannot be read.
    """
    disks = _read(definition).get("disks")
    for disk in disks if isinstance(disks, list) else []:
        if isinstance(disk, dict) and _slot_of(disk) == slot:
            return disk
    return {}


def generation_of(definition: str) -> int:
    """Generation of the VM, 1 or 2; 0 if the definition does not have it."""
    vm = _read(definition).get("vm")
    found = vm.get("Generation") if isinstance(vm, dict) else None
    return found if isinstance(found, int) else 0


def _read(definition: str) -> dict[str, Any]:
    try:
        found = json.loads(definition)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _slot_of(disk: Mapping[str, Any]) -> str | None:
    kind = disk.get("ControllerType")
    if not isinstance(kind, int) or kind not in CONTROLLERS:
        return None
    return f"{CONTROLLERS[kind]} {disk.get('ControllerNumber')}:{disk.get('ControllerLocation')}"


def _lines(problems: list[Any]) -> Iterator[str]:
    for problem in problems:
        if isinstance(problem, dict):
            section, error = str(problem.get("section")), str(problem.get("error"))
            yield f"{section[:MAX_LETTERS]} ({error[:MAX_LETTERS]})"
