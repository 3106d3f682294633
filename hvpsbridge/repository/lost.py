"""Finds committed recovery points whose manifest is damaged or missing, and where they are in their lineage.

A manifest that cannot be read does not say to which VM it belongs. Other objects that nobody can make without
the key do: the ids of the point, the ledger of its VM, points that were made from it, and proofs. A damaged
object under ``points/`` that none of these names is not a lost point, since anyone who can create objects can
put one there; ``verify`` reports it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar
from uuid import UUID

from hvpsbridge.errors import Damaged, NewerObject, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.ids import PointIds
from hvpsbridge.formats.ledger import LedgerEntry
from hvpsbridge.formats.marks import LaterProof, Tombstone
from hvpsbridge.repository.layout import IDS, LEDGER, PROOFS, point_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.points import LostPoint, Point

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Link:
    """A place in a lineage that is known: a point that can be read, or the tombstone of one."""

    point_id: UUID
    sequence: int
    digest: bytes
    previous: bytes | None
    bases: frozenset[UUID] = frozenset()


@dataclass(slots=True)
class _Facts:
    """What other objects say about a point: its VM, the digest of its manifest, whether it existed."""

    vm_id: UUID | None = None
    digest: bytes | None = None
    existed: bool = False


@dataclass(slots=True)
class _Ledger:
    """Points in the order in which the ledgers of their VMs name them."""

    order: dict[UUID, list[UUID]] = field(default_factory=dict)

    def add(self, entry: LedgerEntry) -> None:
        if entry.point_id is not None:
            named = self.order.setdefault(entry.vm_id, [])
            if entry.point_id not in named:
                named.append(entry.point_id)


def find_lost(
    objects: Objects,
    suspects: Mapping[UUID, str],
    points: Sequence[Point],
    tombstones: Sequence[Tombstone],
    vm_id: UUID | None,
) -> tuple[LostPoint, ...]:
    """The lost points among ``suspects``; of all VMs, or those that may be of one.

    Args:
        objects: the repository.
        suspects: points whose manifest is damaged or missing, and what is wrong with it.
        points: all points that can be read.
        tombstones: all tombstones.
        vm_id: the VM.
    """
    if not suspects:
        return ()
    lines = _lines(points, tombstones)
    ledger = _read_ledger(objects, vm_id)
    found = []
    for point_id, what in sorted(suspects.items()):
        facts = _facts(objects, point_id, lines, ledger)
        if not facts.existed or (vm_id is not None and facts.vm_id not in (vm_id, None)):
            continue
        lost = LostPoint(
            point_id=point_id, name=point_name(point_id), what=what, vm_id=facts.vm_id, digest=facts.digest
        )
        if facts.vm_id is not None:
            lost = _placed(lost, lines.get(facts.vm_id, []), ledger.order.get(facts.vm_id, []))
        found.append(lost)
    return tuple(found)


def next_after(
    vm_id: UUID, points: Sequence[Point], tombstones: Sequence[Tombstone], lost: Sequence[LostPoint]
) -> tuple[int, bytes | None]:
    """Sequence number of a VM's next point, and the digest of the one before.

    Pruned and lost points keep their numbers: when a damaged manifest is put back from a copy of the storage,
    no other point has its number.
    """
    line = sorted(_lines(points, tombstones).get(vm_id, []), key=lambda link: link.sequence)
    newest = line[-1].sequence if line else 0
    digest = line[-1].digest if line else None
    mine = [each for each in lost if each.vm_id == vm_id and each.last is None]
    newer = [each for each in mine if each.first > newest]
    # Others may be newer, or one of those that are missing in between.
    free = newest - len({link.sequence for link in line})
    count = len(newer) + max(len(mine) - len(newer) - free, 0)
    if count == 0:
        return newest + 1, digest
    last = max(newer or mine, key=lambda each: each.first)
    return newest + count + 1, last.digest or digest


def _lines(points: Iterable[Point], tombstones: Iterable[Tombstone]) -> dict[UUID, list[_Link]]:
    lines: dict[UUID, list[_Link]] = {}
    for point in points:
        manifest = point.manifest
        bases = frozenset(disk.base for disk in point.disks if disk.base is not None)
        lines.setdefault(point.vm_id, []).append(
            _Link(point.point_id, manifest.sequence, manifest.digest(), manifest.previous, bases)
        )
    for tomb in tombstones:
        lines.setdefault(tomb.vm_id, []).append(
            _Link(tomb.point_id, tomb.sequence, tomb.digest, tomb.previous)
        )
    return lines


def _facts(objects: Objects, point_id: UUID, lines: Mapping[UUID, list[_Link]], ledger: _Ledger) -> _Facts:
    facts = _Facts()
    for ids in _records(objects, PointIds, Kind.IDS, [f"{IDS}/{point_id.hex}"]):
        facts = _Facts(ids.vm_id, ids.manifest_digest, existed=True)
    for vm_id, named in ledger.order.items():
        if point_id in named:
            facts.vm_id, facts.existed = facts.vm_id or vm_id, True
    names = sorted(info.name for info in objects.list(f"{PROOFS}/{point_id.hex}"))
    for proof in _records(objects, LaterProof, Kind.PROOF, names):
        facts.digest, facts.existed = facts.digest or proof.manifest_digest, True
    for vm_id, line in lines.items():
        if any(
            point_id in link.bases or (facts.digest is not None and link.previous == facts.digest)
            for link in line
        ):
            facts.vm_id, facts.existed = facts.vm_id or vm_id, True
    return facts


def _placed(lost: LostPoint, line: Sequence[_Link], order: Sequence[UUID]) -> LostPoint:
    """``lost`` with the sequence numbers that it may have."""
    for link in line:
        if lost.digest is not None and link.previous == lost.digest:
            return replace(lost, first=link.sequence - 1, last=link.sequence - 1)
    first, last = 1, [link.sequence - 1 for link in line if lost.point_id in link.bases]
    if lost.point_id in order:
        at = order.index(lost.point_id)
        older, newer = set(order[:at]), set(order[at + 1 :])
        first = max((link.sequence + 1 for link in line if link.point_id in older), default=1)
        last += [link.sequence - 1 for link in line if link.point_id in newer]
    return replace(lost, first=first, last=min(last, default=None))


def _read_ledger(objects: Objects, vm_id: UUID | None) -> _Ledger:
    prefix = LEDGER if vm_id is None else f"{LEDGER}/{objects.sealer.opaque(LEDGER, vm_id)}"
    ledger = _Ledger()
    names = sorted(info.name for info in objects.list(prefix))  # in the order of their counters
    for entry in _records(objects, LedgerEntry, Kind.LEDGER, names):
        ledger.add(entry)
    return ledger


def _records(objects: Objects, record: type[T], kind: Kind, names: Sequence[str]) -> Iterator[T]:
    """The records that can be read; others prove nothing."""

    def read(name: str) -> T | None:
        with contextlib.suppress(ObjectMissing, Damaged, NewerObject):
            return objects.read_record(record, name, kind)
        return None

    yield from (found for found in objects.each(read, names) if found is not None)
