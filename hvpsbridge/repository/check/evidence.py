"""Finds damaged small objects, and lost manifests.

A lost manifest leaves evidence. Within a VM's lineage it leaves a gap. The newest one is named by its ids,
its proofs, and the ledger entries written after it was committed. If all of these are removed with it, the
repository is the same as before that point (docs/threat-model.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from hvpsbridge.errors import Damaged, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index_table import decode_table
from hvpsbridge.formats.ledger import LedgerEntry
from hvpsbridge.formats.malformed import Malformed, UnknownFields
from hvpsbridge.formats.marks import Tombstone
from hvpsbridge.formats.record import decode_record
from hvpsbridge.repository import layout
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.check.findings import VerifyProblem, touched
from hvpsbridge.repository.check.reconcile import reconcile
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.points import Point

# Objects that are only read; their content is checked where it is used.
_SMALL_OBJECTS = {
    layout.INDEX: Kind.INDEX,
    layout.IDS: Kind.IDS,
    layout.LEDGER: Kind.LEDGER,
    layout.BAD: Kind.BAD_LIST,
    layout.TOMBSTONES: Kind.TOMBSTONE,
    layout.PROOFS: Kind.PROOF,
    layout.EXPORTS: Kind.EXPORT,
    layout.LEASES: Kind.LEASE,
    layout.RUNS: Kind.LEASE,
    layout.DOOMED: Kind.DOOMED,
    layout.FENCES: Kind.FENCE,
    layout.TAGS: Kind.TAG,
    layout.PRUNED: Kind.TOMBSTONES,
    layout.VERIFIED: Kind.VERIFIED,
}
# Why an object that cannot be read is only noted. Anyone who can create objects can put one there, and an
# exit code that is 7 every night would hide the night that matters.
_HARMLESS = {
    Kind.BAD_LIST: "what it listed, `hvps verify --level hashed` finds again",
    Kind.TOMBSTONE: "if it was of a pruned point, the point shows as missing",
    Kind.EXPORT: "it only recorded that the key was exported",
    Kind.LEASE: "it only makes others wait",
    Kind.IDS: "it is of no point",
    Kind.PROOF: "it is of no point",
    Kind.LEDGER: "it is of no VM",
    Kind.DOOMED: "nothing that it listed is deleted because of it",
    Kind.FENCE: "if it was of a run that came back, a point of that run may lack chunks",
    Kind.TAG: "if it was of a point, a change of its tags or protection is lost",
    Kind.TOMBSTONES: "the pruned points that it named show as missing",
    Kind.VERIFIED: "what it said was verified counts as not verified",
}
# More than this are summed up: anyone who can create objects could make millions.
MAX_NOTES = 1000
# Sequence number, digest and previous digest of a point or its tombstone; the point, if it exists.
_Link = tuple[int, bytes, bytes | None, Point | None]


@dataclass(slots=True)
class Evidence:
    """What was found.

    Attributes:
        problems: damaged objects.
        notes: objects that cannot be read, or have names that hvps does not use, and that nothing needs.
        points: hex ids of points that some object names, and which.
    """

    problems: list[VerifyProblem] = field(default_factory=list)
    notes: list[VerifyProblem] = field(default_factory=list)
    points: dict[str, str] = field(default_factory=dict)


def gather(
    objects: Objects, cache: IndexCache, manifests: Collection[str], vm_ids: Collection[UUID]
) -> Evidence:
    """Read all small objects. The local index cache is compared with the index objects and corrected, since
    its corruption must neither be reported as damage of the repository nor hide it.

    Args:
        objects: the repository.
        cache: its index cache.
        manifests: hex ids of all manifests, damaged ones, too.
        vm_ids: VMs that have points.
    """
    evidence = Evidence()
    cache.check()
    # A superseded index object is not needed. It remains if the store refuses to delete it.
    superseded = set(map(layout.index_name, cache.superseded()))
    unreadable: list[tuple[Kind, str, str]] = []
    ledgers = {f"{layout.LEDGER}/{objects.sealer.opaque(layout.LEDGER, vm_id)}" for vm_id in vm_ids}
    for prefix, kind in _SMALL_OBJECTS.items():
        for info in list(objects.list(prefix)):
            try:
                payload = objects.read(info.name, kind)
                if kind is Kind.INDEX:
                    content = decode_table(payload)
                    superseded.update(map(layout.index_name, content.supersedes))
                    if info.name not in superseded:
                        reconcile(cache, info.name, content)
                elif kind is Kind.LEDGER:
                    _add_ledger_entry(evidence, payload)
                    ledgers.add(info.name.rsplit("/", 1)[0])
                elif kind in (Kind.IDS, Kind.PROOF):
                    evidence.points.setdefault(info.name.split("/")[1], f"its {prefix}")
            except (ObjectMissing, UnknownFields):
                continue  # gone since the listing, or written by a newer hvps
            except Damaged as err:
                unreadable.append((kind, info.name, err.what))
            except Malformed as err:
                unreadable.append((kind, info.name, str(err)))
    needed = ledgers | {f"{folder}/{point}" for folder in (layout.IDS, layout.PROOFS) for point in manifests}
    for kind, name, what in unreadable:
        is_needed = kind is Kind.INDEX or name in needed or name.rsplit("/", 1)[0] in needed
        if is_needed and name not in superseded:
            evidence.problems.append(VerifyProblem(name, what))
        elif kind in _HARMLESS:
            evidence.notes.append(VerifyProblem(name, f"{what}; {_HARMLESS[kind]}"))
    evidence.notes += [
        VerifyProblem(name, "not an object of hvps; it is ignored") for name in objects.unknown_names()
    ]
    _add_empty(evidence, objects)
    if len(evidence.notes) > MAX_NOTES:
        more = len(evidence.notes) - MAX_NOTES
        evidence.notes[MAX_NOTES:] = [VerifyProblem("others", f"{more} more objects that nothing needs")]
    return evidence


def _add_empty(evidence: Evidence, objects: Objects) -> None:
    """Report empty objects, which a copy of the files that was not finished has many of."""
    # Names are enough: what they name may be empty, too.
    named = {
        info.name.split("/")[1] for folder in (layout.IDS, layout.PROOFS) for info in objects.list_all(folder)
    }
    for name in objects.empty_names():
        folder, _, point = name.partition("/")
        if folder == layout.POINTS and point in named and point not in evidence.points:
            what = "the manifest is empty; if this is a copy of the files, copy them again"
            evidence.problems.append(VerifyProblem(name, what))
        else:
            what = (
                "it is empty: a writer died here, or the files were copied in part, or somebody else made it"
            )
            evidence.notes.append(VerifyProblem(name, what))


def _add_ledger_entry(evidence: Evidence, payload: bytes) -> None:
    entry = decode_record(LedgerEntry, payload)
    if entry.point_id is not None:  # the ledger names only committed points
        evidence.points.setdefault(entry.point_id.hex, "the ledger")


def orphan_problems(
    objects: Objects, evidence: Evidence, points: Sequence[Point], tombstones: Sequence[Tombstone]
) -> Iterator[VerifyProblem]:
    """Points that some object names, but that neither exist nor were pruned."""
    known = {point.point_id.hex for point in points} | {tomb.point_id.hex for tomb in tombstones}
    for point in sorted(evidence.points.keys() - known):
        name, names = f"{layout.POINTS}/{point}", evidence.points[point]
        try:
            if not objects.store.size(name):
                yield VerifyProblem(name, f"the manifest is empty, but {names} names it")
        except ObjectMissing:
            yield VerifyProblem(name, f"the manifest is missing, but {names} names it")
        except Damaged as err:  # a folder
            yield VerifyProblem(name, err.what)


def line_problems(points: Sequence[Point], tombstones: Sequence[Tombstone]) -> Iterator[VerifyProblem]:
    """Gaps in the lineages of VMs: manifests that neither exist nor were pruned."""
    by_vm: dict[UUID, list[Point]] = {}
    for point in points:
        by_vm.setdefault(point.vm_id, []).append(point)
    for vm_id in {*by_vm, *(tomb.vm_id for tomb in tombstones)}:
        live = {point.point_id for point in by_vm.get(vm_id, ())}
        links: list[_Link] = [
            (point.manifest.sequence, point.manifest.digest(), point.manifest.previous, point)
            for point in by_vm.get(vm_id, ())
        ]
        # A prune that died after writing the tombstone leaves both. Then the point exists.
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
        name = f"lineage of VM {vm_id}"
        if sequence > expected:
            lost = f"point {expected} is" if sequence == expected + 1 else f"{sequence - expected} points are"
            yield VerifyProblem(name, f"{lost} missing before point {sequence}", touches)
        elif sequence < expected:
            yield VerifyProblem(name, f"two points have number {sequence}", touches)
        elif before != previous:
            yield VerifyProblem(name, f"point {sequence} does not follow the one before it", touches)
        expected, previous = sequence + 1, digest
