"""What the ledger says of restores into existing VMs: files that they rename, and what they restored."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self
from uuid import UUID


class Stage(StrEnum):
    """How far a restore in place is."""

    COPYING = "copying"
    WRITING = "writing"
    KEPT = "kept"
    UNDOING = "undoing"


@dataclass(frozen=True, slots=True)
class InPlaceDisk:
    """Files of one disk on the host.

    Attributes:
        path: as the VM has it.
        written: while it is written.
        undo: the copy of what it was before.
    """

    slot: str
    path: str
    written: str
    undo: str

    @classmethod
    def of(cls, slot: str, path: str) -> Self:
        """The names for a disk file."""
        # Before the extension, by which Windows knows what a file is.
        stem, dot, extension = path.rpartition(".")
        return cls(slot, path, f"{stem}.restoring{dot}{extension}", f"{stem}.before-restore{dot}{extension}")


@dataclass(frozen=True, slots=True)
class InPlaceRestore:
    """A restore into the disks of an existing VM.

    Attributes:
        machine: name of the host as it calls itself.
        point_id: the point that is restored.
        role: cluster resource of the VM that is brought online again at the end; empty if none is.
    """

    machine: str
    vm_id: UUID
    vm_name: str
    point_id: UUID
    stage: Stage
    disks: tuple[InPlaceDisk, ...]
    role: str = ""

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), separators=(",", ":"), default=str)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From JSON.

        Raises:
            ValueError: it is not one.
        """
        try:
            found = json.loads(text)
            disks = tuple(
                InPlaceDisk(*(str(disk[name]) for name in ("slot", "path", "written", "undo")))
                for disk in found["disks"]
            )
            return cls(
                str(found["machine"]),
                UUID(found["vm_id"]),
                str(found["vm_name"]),
                UUID(found["point_id"]),
                Stage(found["stage"]),
                disks,
                str(found.get("role", "")),
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as err:
            raise ValueError("not a restore in place") from err


@dataclass(frozen=True, slots=True)
class RestoredDisks:
    """Which disks of a VM hold a point since when.

    Attributes:
        after: number of the VM's newest point at that time; 0 if there was none.
        source_vm_id: the VM of the point.
        slots: of the disks.
    """

    after: int
    source_vm_id: UUID
    slots: tuple[str, ...]

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), separators=(",", ":"), default=str)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From JSON.

        Raises:
            ValueError: it is none.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            return cls(int(found["after"]), UUID(found["source_vm_id"]), tuple(map(str, found["slots"])))
        except (KeyError, TypeError, AttributeError, RecursionError) as err:
            raise ValueError("does not say which disks were restored") from err
