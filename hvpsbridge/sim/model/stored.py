"""What the volumes of a host hold: files, folders, and virtual disks with their change tracking."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from hvpsbridge.sim.model.enums import VhdFormat, VhdType
from hvpsbridge.sim.model.extentset import ExtentSet
from hvpsbridge.units import MIB


@dataclass(slots=True)
class Volume:
    """A Windows volume. ``used_elsewhere_bytes`` is the space of files outside the model."""

    root: str
    total_bytes: int
    used_elsewhere_bytes: int = 0
    file_system: str = "NTFS"


@dataclass(slots=True, kw_only=True)
class HostFile:
    """A file that a program wrote on a host.

    Attributes:
        path: Windows path.
        layer: number of the virtual disk that it became when it was opened as one.
    """

    number: int
    path: str
    size_bytes: int = 0
    layer: int | None = None
    compressed: bool = False
    encrypted: bool = False

    @property
    def backing(self) -> str:
        """Name of the sparse file with its bytes."""
        return f"{self.number}.file"


@dataclass(slots=True)
class HostFolder:
    """A folder that a program made on a host, and what files in it inherit."""

    path: str
    compressed: bool = False
    encrypted: bool = False


@dataclass(slots=True)
class Epoch:
    """What was written to a layer between two ids of change tracking.

    Attributes:
        rct_id: the id taken at the start; None for the first epoch of a new child, which continues its
            parent's last epoch.
        order: number of the id in order of time, over the whole world.
        memory: changes in the kernel's bitmap only.
        flushed: changes on stable storage (``.rct``, or ``.mrt`` after a power loss).
        other_ids: further ids of the same moment.
        shown: whether handles show ``rct_id``; they show the last of ``other_ids`` where there is one.
    """

    rct_id: str | None
    order: int
    memory: ExtentSet = field(default_factory=ExtentSet)
    flushed: ExtentSet = field(default_factory=ExtentSet)
    other_ids: list[str] = field(default_factory=list)
    shown: bool = True


@dataclass(slots=True, kw_only=True)
class Layer:
    """One virtual disk file.

    Attributes:
        path: Windows path.
        parent: number of the parent layer.
        present: extents that this file holds itself; elsewhere reads go to the parent, or give zeros.
        made_by_checkpoint: whether a checkpoint made it, so that it will be merged again.
        tracking_lost: the ``.rct`` is missing or damaged, so all ids of this file are unknown.
        unreadable: extents whose reading fails with a device error.
        vm_path: path that its VM has for it, if the file was renamed since.
        folder_rights: its file has the rights of its folder only, so that no VM may open it.
        beside: where files of change tracking are, by extension, as path of a disk; those not here lie beside
            this one.
    """

    number: int
    path: str
    size_bytes: int
    disk_id: UUID
    parent: int | None = None
    logical_sector_bytes: int = 512
    physical_sector_bytes: int = 4096
    block_bytes: int = 32 * MIB
    format: VhdFormat = VhdFormat.VHDX
    kind: VhdType = VhdType.Dynamic
    made_by_checkpoint: bool = False
    present: ExtentSet = field(default_factory=ExtentSet)
    epochs: list[Epoch] = field(default_factory=list)
    tracking_enabled: bool = False
    tracking_lost: bool = False
    unreadable: ExtentSet = field(default_factory=ExtentSet)
    vm_path: str | None = None
    beside: dict[str, str] = field(default_factory=dict)
    folder_rights: bool = False

    @property
    def backing(self) -> str:
        """Name of the sparse raw file with its bytes."""
        return f"{self.number}.raw"

    @property
    def drive_path(self) -> str:
        """Path that its VM has for it."""
        return self.vm_path or self.path
