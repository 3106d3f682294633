"""How old the newest point of each VM is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from hvpsbridge.repository.point_lines import PointLine
from hvpsbridge.repository.points import LostPoint, vms_named

# Clocks of hosts differ. A point from further in the future says nothing about the age of the VM's points.
MAX_AHEAD = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmAge:
    """The newest point of a VM.

    Attributes:
        vm: its name in its newest point; as it was asked for if it has no point.
        vm_id: null if it has no point.
        point_id: its newest point that can be read; null without one.
        created: when the checkpoint of that point was taken.
        age_seconds: how long ago; 0 if the clock of the host is ahead.
        good: whether that is not too long ago.
        note: what else is wrong; empty if nothing is.
    """

    vm: str
    vm_id: UUID | None
    point_id: UUID | None
    created: datetime | None
    age_seconds: float | None
    good: bool
    note: str = ""


def vm_ages(
    lines: Sequence[PointLine],
    lost: Iterable[LostPoint],
    names: Sequence[str],
    max_age: timedelta,
    now: datetime,
) -> tuple[VmAge, ...]:
    """Ages of the VMs with these names or ids; of every VM that has points, without names.

    Sorted by name, those that are too old first.

    Args:
        lines: every point.
        lost: points that cannot be read.
        names: of VMs; a name without points is a VM without points.
        max_age: of a good point.
        now: the time.
    """
    unreadable: dict[UUID, int] = {}
    for point in lost:
        if point.vm_id is not None:
            unreadable[point.vm_id] = unreadable.get(point.vm_id, 0) + 1
    by_vm: dict[UUID, list[PointLine]] = {vm_id: [] for vm_id in unreadable}
    for line in lines:
        by_vm.setdefault(line.vm_id, []).append(line)
    found = []
    wanted = frozenset(by_vm)
    if names:
        known = {name: vms_named(lines, name) | _with_id(by_vm, name) for name in names}
        wanted = frozenset(vm_id for ids in known.values() for vm_id in ids)
        found = [_age(name, None, (), 0, max_age, now) for name, ids in known.items() if not ids]
    for vm_id in wanted:
        mine = by_vm[vm_id]
        name = max(mine, key=lambda line: line.sequence).vm_name if mine else str(vm_id)
        found.append(_age(name, vm_id, mine, unreadable.get(vm_id, 0), max_age, now))
    return tuple(sorted(found, key=lambda age: (age.good, age.vm, str(age.vm_id))))


def _with_id(by_vm: Iterable[UUID], name: str) -> frozenset[UUID]:
    return frozenset(vm_id for vm_id in by_vm if name.lower() == str(vm_id))


def _age(
    name: str,
    vm_id: UUID | None,
    lines: Sequence[PointLine],
    unreadable: int,
    max_age: timedelta,
    now: datetime,
) -> VmAge:
    counted = [line for line in lines if line.created <= now + MAX_AHEAD]
    notes = []
    if len(counted) < len(lines):
        notes.append(f"points from the future: {len(lines) - len(counted)}")
    if unreadable:
        notes.append(f"points that cannot be read: {unreadable}")
    newest = max(counted, key=lambda line: (line.created, line.sequence), default=None)
    age = None if newest is None else max(now - newest.created, timedelta(0))
    return VmAge(
        vm=name,
        vm_id=vm_id,
        point_id=None if newest is None else newest.point_id,
        created=None if newest is None else newest.created,
        age_seconds=None if age is None else age.total_seconds(),
        good=age is not None and age <= max_age,
        note=", ".join(notes),
    )
