"""The guests of the demo: two VMs and three disks with thousands of files, and what changes between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hvpsbridge.errors import ToolMissing
from hvpsbridge.sim.guests import DiskState, GuestDisk, PartitionPlan, usable_file_systems
from hvpsbridge.units import MIB

SEED = 20260301
# Share of its files that a guest changes between two runs.
_TOUCHED = 0.03


@dataclass(frozen=True, slots=True)
class DemoDisk:
    """A disk of a guest: its VM and slot, and its states so far, oldest first."""

    vm: str
    slot: str
    guest: GuestDisk
    states: list[DiskState]

    @property
    def newest(self) -> DiskState:
        """The current state."""
        return self.states[-1]


@dataclass(frozen=True, slots=True)
class SkippedFileSystem:
    """A file system that is left out, and why."""

    file_system: str
    reason: str


def usable() -> tuple[frozenset[str], tuple[SkippedFileSystem, ...]]:
    """File systems that the demo can use here, and those that it must leave out.

    Raises:
        ToolMissing: ext4 cannot be created here.
    """
    reasons = usable_file_systems()
    if reasons["ext4"]:
        raise ToolMissing("mke2fs and debugfs", "e2fsprogs", "the demo's guests")
    here = frozenset(name for name, reason in reasons.items() if not reason)
    return here, tuple(SkippedFileSystem(name, reason) for name, reason in reasons.items() if reason)


def build(folder: Path, file_systems: frozenset[str], *, small: bool) -> tuple[DemoDisk, ...]:
    """Create all disks, in the order of VMs and slots.

    Args:
        folder: for the disks, each in a folder of its own.
        file_systems: the file systems that can be used.
        small: create a tenth of the files.
    """
    plans: Mapping[tuple[str, str], Sequence[PartitionPlan]] = {
        ("web01", "scsi 0:0"): [_plan("fat32", 300, 6, small), _plan("ext4", 1700, 48, small)],
        ("files01", "scsi 0:0"): [_plan("ext4", 1500, 40, small)],
        ("files01", "scsi 0:1"): [_plan("ntfs", 1000, 24, small), _plan("fat32", 500, 12, small)],
    }

    def make(number: int, vm: str, slot: str, wanted: Sequence[PartitionPlan]) -> DemoDisk:
        usable_plans = [plan for plan in wanted if plan.file_system in file_systems]
        guest = GuestDisk(
            folder / f"{vm}-{slot.replace(' ', '').replace(':', '-')}",
            usable_plans or [_plan("ext4", 1500, 36, small)],
            seed=SEED + 100 * number,
        )
        return DemoDisk(vm, slot, guest, [guest.state])

    # Other processes fill the file systems, so threads are enough to keep two cores busy.
    with ThreadPoolExecutor(2) as pool:
        made = [
            pool.submit(make, number, vm, slot, wanted)
            for number, ((vm, slot), wanted) in enumerate(plans.items())
        ]
        return tuple(future.result() for future in made)


def keep_running(disks: Sequence[DemoDisk]) -> None:
    """Change, add and delete files in every guest."""

    def live(number: int, disk: DemoDisk) -> None:
        disk.states.append(
            disk.guest.keep_running(seed=SEED + 10_000 * len(disk.states) + number, share=_TOUCHED)
        )

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(live, number, disk) for number, disk in enumerate(disks)]:
            future.result()


def _plan(file_system: str, files: int, data_mib: int, small: bool) -> PartitionPlan:
    """A partition that is several times as large as its files, as usual."""
    size = 64 if small else max(64, data_mib * 5)
    return PartitionPlan(
        file_system,
        size_bytes=size * MIB,
        files=files // 10 if small else files,
        data_bytes=(data_mib * MIB) // (10 if small else 1),
    )
