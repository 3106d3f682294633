"""The demo's guests: two VMs, three disks, thousands of real files, and what they do between two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hvpsbridge.errors import ToolMissing
from hvpsbridge.sim.guests import DiskState, GuestDisk, PartitionPlan, usable_file_systems
from hvpsbridge.units import MIB

SEED = 20260301
# Part of its files that a guest touches between two runs.
_TOUCHED = 0.03


@dataclass(frozen=True, slots=True)
class DemoDisk:
    """One disk of the cast: whose it is, where it hangs, and its states so far, the first one first."""

    vm: str
    slot: str
    guest: GuestDisk
    states: list[DiskState]

    @property
    def newest(self) -> DiskState:
        """The state the guest sees now."""
        return self.states[-1]


@dataclass(frozen=True, slots=True)
class Left:
    """A file system left out, and why."""

    file_system: str
    reason: str


def usable() -> tuple[frozenset[str], tuple[Left, ...]]:
    """File systems the demo can use here, and those it must leave out.

    Raises:
        ToolMissing: not even ext4 can be made here.
    """
    reasons = usable_file_systems()
    if reasons["ext4"]:
        raise ToolMissing("mke2fs and debugfs", "e2fsprogs", "the demo's guests")
    here = frozenset(name for name, reason in reasons.items() if not reason)
    return here, tuple(Left(name, reason) for name, reason in reasons.items() if reason)


def build(folder: Path, file_systems: frozenset[str], *, small: bool) -> tuple[DemoDisk, ...]:
    """Makes all disks, in slot order per VM.

    Args:
        folder: where; each disk gets a folder of its own.
        file_systems: those that can be used.
        small: a tenth of the files, for a quick look and for tests.
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

    # The programs that fill file systems are processes of their own: threads keep two cores busy.
    with ThreadPoolExecutor(2) as pool:
        made = [
            pool.submit(make, number, vm, slot, wanted)
            for number, ((vm, slot), wanted) in enumerate(plans.items())
        ]
        return tuple(future.result() for future in made)


def keep_running(cast: Sequence[DemoDisk]) -> None:
    """Every guest changes, adds and deletes files."""

    def live(number: int, disk: DemoDisk) -> None:
        disk.states.append(
            disk.guest.keep_running(seed=SEED + 10_000 * len(disk.states) + number, share=_TOUCHED)
        )

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(live, number, disk) for number, disk in enumerate(cast)]:
            future.result()


def _plan(file_system: str, files: int, data_mib: int, small: bool) -> PartitionPlan:
    """A partition several times as large as its files, as they are in life."""
    size = 64 if small else max(64, data_mib * 5)
    return PartitionPlan(
        file_system,
        size_bytes=size * MIB,
        files=files // 10 if small else files,
        data_bytes=(data_mib * MIB) // (10 if small else 1),
    )
