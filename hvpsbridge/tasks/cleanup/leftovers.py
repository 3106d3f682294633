"""Lists what hvps has on a host: checkpoints, reference points and shells, each with its owner and why.

Ownership is decided in :mod:`.ownership`. Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    ReferencePointInfo,
    VmInfo,
)
from hvpsbridge.formats.ledger import LedgerEntry
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.shells import HostShell
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.cleanup.ownership import (
    Ownership,
    decide_ownership,
    has_ids_of,
    reference_points_to_keep,
)
from hvpsbridge.tasks.cleanup.shells import own_shells
from hvpsbridge.tasks.planning.lineage import Lineage, read_lineage
from hvpsbridge.tasks.planning.mark import parse_mark


class Owner(StrEnum):
    """Who an object belongs to, and so what a sweep does with it.

    Needed and leftover objects were created by hvps for this repository; a sweep removes the latter.
    Unclear ones may have been, and foreign ones were not; a sweep leaves both.
    """

    NEEDED = "needed"
    LEFTOVER = "leftover"
    UNCLEAR = "unclear"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class HostObject:
    """An object on a host. The fields are keys of the report.

    Attributes:
        kind: ``checkpoint``, ``reference point`` or ``shell``.
        thing_id: the host's id of it.
        name: as the host shows it; the id if it has no name.
        whose: its owner.
        what: why, and what a sweep does with it; one line.
    """

    kind: str
    thing_id: str
    name: str
    whose: Owner
    what: str


@dataclass(frozen=True, slots=True)
class VmObjects:
    """What is on a host for one VM. Users' own checkpoints are not listed.

    Attributes:
        vm: the VM.
        objects: checkpoints, reference points and shells.
        open_runs: runs that were not cleaned up after, though they may have left nothing.
    """

    vm: VmInfo
    objects: tuple[HostObject, ...]
    open_runs: tuple[UUID, ...] = ()

    def of(self, owner: Owner) -> tuple[HostObject, ...]:
        """The objects of one owner."""
        return tuple(one for one in self.objects if one.whose is owner)

    @property
    def needs_sweep(self) -> bool:
        """Whether a sweep has anything to do."""
        return bool(self.open_runs or self.of(Owner.LEFTOVER) or self.of(Owner.UNCLEAR))


def find_objects(
    host: HyperVHost, repository: Repository, vm: VmInfo, shells: Sequence[HostShell]
) -> VmObjects:
    """What is on the host for a VM.

    Args:
        host: the host; its own shell is not listed.
        repository: the one whose objects count as created by hvps.
        vm: the VM.
        shells: all that the host lists.

    Raises:
        HostError: the host cannot be asked.
        RepositoryError: the repository cannot be read.
    """
    ledger = repository.ledger(vm.vm_id)
    entries, open_entries = ledger.current_entries(), ledger.open_entries()
    lineage = read_lineage(repository, vm.vm_id)
    checkpoints = host.checkpoints(vm.vm_id)
    reference_points = host.reference_points(vm.vm_id)
    ownership = decide_ownership(
        entries,
        open_entries,
        checkpoints,
        reference_points,
        lineage,
        repository.repository_id,
        authentic=repository.encrypted,
    )
    return VmObjects(
        vm,
        (
            *_checkpoints(checkpoints, ownership, lineage, repository.repository_id),
            *_reference_points(reference_points, ownership, lineage, durable=repository.durable),
            *_shells(shells, ledger.entries(), open_entries, host.shell_id),
        ),
        tuple(dict.fromkeys(entry.run_id for entry in open_entries)),
    )


def _checkpoints(
    checkpoints: Iterable[CheckpointInfo], ownership: Ownership, lineage: Lineage, repository_id: UUID
) -> Iterator[HostObject]:
    newest = lineage.points[-1].manifest.checkpoint_id if lineage.points else None
    for checkpoint in checkpoints:
        mark = parse_mark(checkpoint.name)
        if checkpoint in ownership.ours:
            owner, why = Owner.LEFTOVER, "left by a run that ended early; will be removed"
            if checkpoint.checkpoint_id == newest:
                why = "belongs to the newest recovery point; will be converted"
        elif checkpoint in ownership.unclear:
            owner, why = Owner.UNCLEAR, "has no mark, but a run that ended early may have created it"
        elif mark is not None and mark.repository_id != repository_id:
            owner, why = Owner.FOREIGN, f"created by hvps for repository {mark.repository_id}"
        elif checkpoint.kind is CheckpointKind.RECOVERY:
            owner, why = Owner.FOREIGN, "created by another product"
        else:
            continue
        yield HostObject("checkpoint", str(checkpoint.checkpoint_id), checkpoint.name, owner, why)


def _reference_points(
    reference_points: Sequence[ReferencePointInfo],
    ownership: Ownership,
    lineage: Lineage,
    *,
    durable: bool,
) -> Iterator[HostObject]:
    ours = [one.instance_id for one in ownership.reference_points]
    candidates = {one.reference_point.instance_id: one for one in ownership.candidates}
    manifests = {point.manifest.point_id: point.manifest for point in lineage.points}
    keep = reference_points_to_keep(lineage, ours, durable=durable)
    for one in reference_points:
        if one.instance_id in keep:
            owner, why = Owner.NEEDED, "base of the next increment"
        elif one.instance_id in ours:
            owner, why = Owner.LEFTOVER, "no increment needs it; will be destroyed"
        elif one.instance_id in candidates:
            points = candidates[one.instance_id].points & manifests.keys()
            if any(has_ids_of(manifests[point], one) for point in points):
                owner, why = Owner.LEFTOVER, "belongs to a recovery point by its ids; will be adopted"
            else:
                owner = Owner.UNCLEAR
                why = "appeared while a run converted a checkpoint, but does not have the ids of its point"
        elif one in ownership.unproven:
            owner, why = Owner.UNCLEAR, "the ledger names it, but no recovery point has its ids"
        else:
            owner, why = Owner.FOREIGN, "created by another product or for another repository"
        yield HostObject("reference point", one.instance_id, one.instance_id, owner, why)


def _shells(
    shells: Sequence[HostShell],
    entries: Iterable[LedgerEntry],
    open_entries: Iterable[LedgerEntry],
    own_shell: str,
) -> Iterator[HostObject]:
    """Shells of runs that the VM's ledger names; others may be other users' or other VMs' runs'."""
    open_runs = {entry.run_id for entry in open_entries}
    for shell, run_id in own_shells(shells, entries, own_shell):
        state = "ended early" if run_id in open_runs else "is over"
        why = f"of run {run_id}, which {state}; will be ended"
        yield HostObject("shell", shell.shell_id, shell.name, Owner.LEFTOVER, why)


def unknown_ids(found: Iterable[VmObjects], wanted: Collection[str]) -> tuple[str, ...]:
    """Those of the ids given by a user that no unclear object has."""
    unclear = {one.thing_id for objects in found for one in objects.of(Owner.UNCLEAR)}
    return tuple(object_id for object_id in wanted if object_id not in unclear)
