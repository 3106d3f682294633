"""What the small objects of a repository tell a verification: which are damaged, and which points there were.

A lost manifest leaves traces. A gap in its VM's line shows one in the middle. The newest one is named by its
ids, by its proofs, and by the entries that the ledger got once it was committed; whoever removes it with all
of those leaves a repository that looks like the one before it was made (docs/threat-model.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from hvpsbridge.errors import Damaged, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import decode_index
from hvpsbridge.formats.ledger import LedgerEntry
from hvpsbridge.formats.malformed import Malformed, UnknownFields
from hvpsbridge.formats.marks import Tombstone
from hvpsbridge.formats.record import decode_record
from hvpsbridge.repository import layout
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.check.findings import VerifyProblem, touched
from hvpsbridge.repository.check.reconcile import hold_against
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.points import Point

# Objects that verification only reads and opens; what they hold is checked where it is used. Leases and
# run objects come and go while others work, and a damaged one costs a wait, so they are left alone.
_READ_ONLY = {
    layout.INDEX: Kind.INDEX,
    layout.IDS: Kind.IDS,
    layout.LEDGER: Kind.LEDGER,
    layout.BAD: Kind.BAD_LIST,
    layout.TOMBSTONES: Kind.TOMBSTONE,
    layout.PROOFS: Kind.PROOF,
    layout.EXPORTS: Kind.EXPORT,
}
# Sequence, digest and previous digest of a point or of its tombstone, and the point if it is there.
_Link = tuple[int, bytes, bytes | None, Point | None]


@dataclass(slots=True)
class Evidence:
    """What was found.

    Attributes:
        problems: objects that are damaged.
        points: hex ids of the points that something names, and what does.
    """

    problems: list[VerifyProblem] = field(default_factory=list)
    points: dict[str, str] = field(default_factory=dict)


def gather(objects: Objects, cache: IndexCache) -> Evidence:
    """What the small objects tell, each of them read. The cache on this machine is held against the index
    objects on the way: its rot must not pass for the repository's, nor hide it."""
    evidence = Evidence()
    superseded: set[str] = set()
    for prefix, kind in _READ_ONLY.items():
        for info in list(objects.list(prefix)):
            if kind in (Kind.IDS, Kind.PROOF):  # their names tell, whatever became of their bytes
                evidence.points.setdefault(info.name.split("/")[1], f"its {prefix}")
            try:
                payload = objects.read(info.name, kind)
                if kind is Kind.INDEX:
                    content = decode_index(payload)
                    superseded.update(map(layout.index_name, content.supersedes))
                    hold_against(cache, info.name, content)
                elif kind is Kind.LEDGER:
                    _take_ledger(evidence, payload)
            except (ObjectMissing, UnknownFields):
                continue  # gone since the listing; or a newer hvps wrote it, and says more than we know
            except Damaged as err:
                evidence.problems.append(VerifyProblem(info.name, err.what))
            except Malformed as err:
                evidence.problems.append(VerifyProblem(info.name, str(err)))
    # What a rebuild superseded says nothing that is not said elsewhere; it stays where nothing is deleted.
    evidence.problems = [problem for problem in evidence.problems if problem.name not in superseded]
    return evidence


def _take_ledger(evidence: Evidence, payload: bytes) -> None:
    entry = decode_record(LedgerEntry, payload)
    if entry.point_id is not None:  # only points that were committed get into the ledger
        evidence.points.setdefault(entry.point_id.hex, "the ledger")


def orphan_problems(
    objects: Objects, evidence: Evidence, points: Sequence[Point], tombstones: Sequence[Tombstone]
) -> Iterator[VerifyProblem]:
    """Points that something names and that are neither there nor pruned."""
    known = {point.point_id.hex for point in points} | {tomb.point_id.hex for tomb in tombstones}
    for point in sorted(evidence.points.keys() - known):
        try:
            objects.store.size(f"{layout.POINTS}/{point}")
        except ObjectMissing:
            what = evidence.points[point]
            yield VerifyProblem(
                f"{layout.POINTS}/{point}", f"the manifest is missing, and {what} tells of it"
            )


def line_problems(points: Sequence[Point], tombstones: Sequence[Tombstone]) -> Iterator[VerifyProblem]:
    """Gaps in the VMs' lines: manifests that are neither there nor pruned."""
    by_vm: dict[UUID, list[Point]] = {}
    for point in points:
        by_vm.setdefault(point.vm_id, []).append(point)
    for vm_id in {*by_vm, *(tomb.vm_id for tomb in tombstones)}:
        live = {point.point_id for point in by_vm.get(vm_id, ())}
        links: list[_Link] = [
            (point.manifest.sequence, point.manifest.digest(), point.manifest.previous, point)
            for point in by_vm.get(vm_id, ())
        ]
        # A prune that died after its tombstone leaves both; the point counts then.
        links += [
            (tomb.sequence, tomb.digest, tomb.previous, None)
            for tomb in tombstones
            if tomb.vm_id == vm_id and tomb.point_id not in live
        ]
        yield from _breaks(vm_id, sorted(links, key=lambda link: link[0]))


def _breaks(vm_id: UUID, links: list[_Link]) -> Iterator[VerifyProblem]:
    expected, previous = 1, None
    for sequence, digest, before, point in links:
        touches = () if point is None else (touched(point, ()),)
        name = f"line of VM {vm_id}"
        if sequence > expected:
            lost = f"point {expected} is" if sequence == expected + 1 else f"{sequence - expected} points are"
            yield VerifyProblem(name, f"{lost} missing before point {sequence}", touches)
        elif sequence < expected:
            yield VerifyProblem(name, f"two points have sequence {sequence}", touches)
        elif before != previous:
            yield VerifyProblem(name, f"point {sequence} does not follow what was before it", touches)
        expected, previous = sequence + 1, digest
