"""What a restore changes of a planned VM: the parameter ``Json`` of ``Complete-HvpsPlannedVm``."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from hvpsbridge.formats.definition import rows_of, sections_of, text_in


@dataclass(frozen=True, slots=True)
class MovedDisk:
    """A disk: path that the configuration has for it, and that of its new file on the host."""

    old: str
    new: str


def planned_vm(
    mark: str,
    notes: str,
    disks: Iterable[MovedDisk],
    *,
    isos: Collection[str] = (),
    adapters: Iterable[tuple[str, str]] = (),
    keep_macs: bool = False,
) -> str:
    """What to change, as JSON text.

    Args:
        mark: notes of the planned VM.
        notes: those of the finished VM.
        disks: the restored ones; drives of others become empty.
        isos: files for DVD drives that the host has.
        adapters: name and switch of each one to connect.
        keep_macs: leave the addresses of adapters as they are.
    """
    return json.dumps(
        {
            "mark": mark,
            "notes": notes,
            "disks": [{"from": disk.old, "to": disk.new} for disk in disks],
            "isos": list(isos),
            "adapters": [{"name": name, "switch": switch} for name, switch in adapters],
            "keep_macs": keep_macs,
        },
        separators=(",", ":"),
    )


def connected_adapters(definition: str) -> tuple[tuple[str, str], ...]:
    """Name and switch of each adapter that the definition of a VM has connected."""
    found = rows_of(sections_of(definition).get("network"))
    named = ((text_in(each, "Name") or "Network Adapter", text_in(each, "SwitchName")) for each in found)
    return tuple((name, switch) for name, switch in named if switch)
