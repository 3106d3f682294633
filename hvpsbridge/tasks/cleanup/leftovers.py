"""What of ours is on a host: every checkpoint, reference point and shell, with whose it is and why.

The law is that of :mod:`.judgement`, whose verdicts this shows: what a mark, a ledger or a point names is
ours, what may be ours but cannot be told is named and left, and everything else is somebody else's.
Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    DiskInfo,
    ReferencePointInfo,
    VmInfo,
)
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.shells import HostShell
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.cleanup.cleaner import read_lineage
from hvpsbridge.tasks.cleanup.ownership import Ownership, ids_of, judge, reference_points_to_keep
from hvpsbridge.tasks.planning.lineage import Lineage
from hvpsbridge.tasks.planning.mark import parse_mark


class Owner(StrEnum):
    """Owner a thing is, and so what a sweep does with it."""

    NEEDED = "needed"
    LEFTOVER = "leftover"
    UNCLEAR = "unclear"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class HostObject:
    """One thing on a host.

    Attributes:
        kind: ``checkpoint``, ``reference point`` or ``shell``.
        thing_id: the host's id of it.
        name: as the host shows it; the id again where there is none.
        whose: ours or not.
        what: why, and what a sweep would do; one line.
    """

    kind: str
    thing_id: str
    name: str
    whose: Owner
    what: str


@dataclass(frozen=True, slots=True)
class VmObjects:
    """What is there for one VM. Users' own checkpoints are nobody's business and not among the things.

    Attributes:
        unsettled: runs whose ledger is open though they may have left nothing.
    """

    vm: VmInfo
    things: tuple[HostObject, ...]
    unsettled: tuple[UUID, ...] = ()

    def of(self, whose: Owner) -> tuple[HostObject, ...]:
        """The things of one kind of owner."""
        return tuple(thing for thing in self.things if thing.whose is whose)

    @property
    def to_settle(self) -> bool:
        """Whether a sweep has anything to do."""
        return bool(self.unsettled or self.of(Owner.LEFTOVER) or self.of(Owner.UNCLEAR))


def look(host: HyperVHost, repository: Repository, vm: VmInfo, shells: Sequence[HostShell]) -> VmObjects:
    """What is on the host for a VM.

    Args:
        host: the host; its own shell is nobody's leftover.
        repository: ours.
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
    judgement = judge(entries, open_entries, checkpoints, reference_points, lineage, repository.repository_id)
    disks = host.disks(vm.vm_id) if judgement.newcomers else ()
    return VmObjects(
        vm,
        (
            *_checkpoints(checkpoints, judgement, lineage, repository.repository_id),
            *_reference_points(reference_points, judgement, lineage, disks, durable=repository.durable),
            *_shells(shells, ledger.entries(), open_entries, host.shell_id),
        ),
        tuple(dict.fromkeys(entry.run_id for entry in open_entries)),
    )


def _checkpoints(
    checkpoints: Iterable[CheckpointInfo], judgement: Ownership, lineage: Lineage, repository_id: UUID
) -> Iterable[HostObject]:
    newest = lineage.points[-1].manifest.checkpoint_id if lineage.points else None
    for checkpoint in checkpoints:
        mark = parse_mark(checkpoint.name)
        if checkpoint in judgement.ours:
            whose, what = Owner.LEFTOVER, "of a run that ended early: to be removed"
            if checkpoint.checkpoint_id == newest:
                what = "of the newest point: to be converted"
        elif checkpoint in judgement.unclear:
            whose, what = Owner.UNCLEAR, "one of several that a run of ours may have made"
        elif mark is not None and mark.repository_id != repository_id:
            whose, what = Owner.FOREIGN, f"of hvps repository {mark.repository_id}"
        elif checkpoint.kind is CheckpointKind.RECOVERY:
            whose, what = Owner.FOREIGN, "of another product"
        else:
            continue
        yield HostObject("checkpoint", str(checkpoint.checkpoint_id), checkpoint.name, whose, what)


def _reference_points(
    reference_points: Sequence[ReferencePointInfo],
    judgement: Ownership,
    lineage: Lineage,
    disks: Sequence[DiskInfo],
    *,
    durable: bool,
) -> Iterable[HostObject]:
    ours = [one.instance_id for one in reference_points if one.instance_id in judgement.known_references]
    keep = reference_points_to_keep(lineage, ours, durable=durable)
    for one in reference_points:
        if one.instance_id in keep:
            whose, what = Owner.NEEDED, "the next increment starts from it"
        elif one.instance_id in ours:
            whose, what = Owner.LEFTOVER, "no increment needs it: to be destroyed"
        elif one in judgement.newcomers:
            if any(ids_of(known.manifest, one, disks) for known in lineage.points):
                whose, what = Owner.LEFTOVER, "its ids are a point's: to be adopted"
            else:
                whose, what = (
                    Owner.UNCLEAR,
                    "appeared while a run of ours converted, but its ids are no point's",
                )
        else:
            whose, what = Owner.FOREIGN, "of another product or another repository"
        yield HostObject("reference point", one.instance_id, one.instance_id, whose, what)


def _shells(
    shells: Iterable[HostShell],
    entries: Iterable[LedgerEntry],
    open_entries: Iterable[LedgerEntry],
    own_shell: str,
) -> Iterable[HostObject]:
    """Shells that the VM's ledger names. Others may be anybody's, hvps at work on another VM among them."""
    runs = {
        entry.shell_id.lower(): entry.run_id
        for entry in entries
        if entry.kind is LedgerKind.RUN_STARTED and entry.shell_id is not None
    }
    unsettled = {entry.run_id for entry in open_entries}
    for shell in shells:
        run_id = runs.get(shell.shell_id.lower())
        if run_id is None or shell.shell_id.lower() == own_shell.lower():
            continue
        state = "did not end" if run_id in unsettled else "is over"
        what = f"of run {run_id}, which {state}: to be ended"
        yield HostObject("shell", shell.shell_id, shell.name or shell.shell_id, Owner.LEFTOVER, what)


def unknown_ids(there: Iterable[VmObjects], wanted: Collection[str]) -> tuple[str, ...]:
    """Of the ids somebody named, those that no unclear thing has."""
    unclear = {thing.thing_id for one in there for thing in one.of(Owner.UNCLEAR)}
    return tuple(thing_id for thing_id in wanted if thing_id not in unclear)
