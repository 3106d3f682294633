"""Selects the VMs of a play, and the disks to exclude. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from hvpsbridge.contract.results import DiskInfo
from hvpsbridge.errors import AmbiguousVm, HostError, VmMissing, VmRenamed
from hvpsbridge.options import Option
from hvpsbridge.tasks.planning.claims import REPLICAS, Candidate, Contest
from hvpsbridge.tasks.planning.drills import is_drill


class SelectableState(StrEnum):
    """States by which a user can select VMs; the words of :class:`VmState`."""

    RUNNING = "running"
    OFF = "off"
    SAVED = "saved"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class VmSelection:
    """Which VMs of a host: names or ids by shell pattern; letter case does not matter."""

    include: Annotated[tuple[str, ...], Option("patterns of names, or ids", min_items=1)] = ("*",)
    exclude: Annotated[tuple[str, ...], Option("patterns of names, or ids")] = ()
    state: Annotated[tuple[SelectableState, ...], Option("only VMs in these states; all by default")] = ()


def choose_vms(
    vms: Iterable[Candidate],
    selection: VmSelection,
    hosts: str,
    limit: Sequence[str] = (),
    *,
    complete: bool = True,
    contests: Sequence[Contest] = (),
    newest_host: Callable[[UUID], str | None] = lambda vm_id: None,
    once_called: Callable[[str], frozenset[UUID]] = lambda name: frozenset(),
) -> tuple[tuple[Candidate, ...], tuple[HostError, ...]]:
    """The selected VMs, sorted by name, and what is wrong with the selection.

    A plain name must mean exactly one VM; none or two is an error, so that no VM is silently left out.
    Patterns may match any number. The VM of a restore drill is never selected.

    Args:
        vms: VMs that one host of the play has.
        selection: of the play.
        hosts: their names, for errors.
        limit: patterns of ``--limit``; selects among the chosen VMs.
        complete: whether every host could be asked; if not, a missing name is not an error.
        contests: VMs that several hosts list. One is an error if the selection includes any of its claims,
            since a host must not take a VM out of the selection by giving it another name.
        newest_host: host of the newest point of a VM; asked for VMs of one name.
        once_called: VMs that had a name, in any case of letters, when they were backed up; asked for names
            that no VM has now. A VM that is found by it is chosen, and its new name is an error.
    """
    winners = [contest.winner for contest in contests if contest.winner is not None]
    candidates = (vm for vm in (*vms, *winners) if not is_drill(vm.name))
    there = sorted(candidates, key=lambda vm: (vm.name.casefold(), str(vm.vm_id)))
    others = [claim for contest in contests for claim in contest.claims]
    chosen: set[UUID] = set()
    problems: list[HostError] = []
    for pattern in selection.include:
        found = [vm for vm in there if _matches(vm, pattern)]
        if not is_pattern(pattern):
            former = frozenset() if found else once_called(pattern)
            if renamed := [vm for vm in there if vm.vm_id in former]:
                problems.extend(VmRenamed(hosts, pattern, vm.name) for vm in renamed)
                found = renamed
            elif not found and complete and not any(_matches(vm, pattern) for vm in others):
                problems.append(VmMissing(hosts, pattern))
            elif len(found) > 1:
                found, proper = _the_one(found, newest_host)
                if not proper:
                    ids = tuple(str(vm.vm_id) for vm in there if _matches(vm, pattern))
                    problems.append(AmbiguousVm(hosts, pattern, ids))
        chosen.update(vm.vm_id for vm in found)
    states = {state.value for state in selection.state}

    within = {vm.vm_id for pattern in limit for vm in _within(there, pattern, once_called)}

    def stays(vm: Candidate) -> bool:
        return (
            not any(_matches(vm, pattern) for pattern in selection.exclude)
            and (not states or vm.state is None or vm.state.value in states)
            and (not limit or vm.vm_id in within)
        )

    for contest in contests:
        if not contest.proper and any(
            stays(vm) and any(_matches(vm, pattern) for pattern in selection.include) for vm in contest.claims
        ):
            problems.append(contest.error)
    return tuple(vm for vm in there if vm.vm_id in chosen and stays(vm)), tuple(problems)


def _the_one(
    found: list[Candidate], newest_host: Callable[[UUID], str | None]
) -> tuple[list[Candidate], bool]:
    """Which of several VMs of one name is meant, and whether the others are as they should be.

    A host can make any number of VMs of one name at any time, so the one that was backed up from its host
    before is still backed up. A replica can have the name of its VM.
    """
    known = [vm for vm in found if (newest_host(vm.vm_id) or "").casefold() == vm.host.casefold()]
    if len(known) == 1:
        return known, all(vm.replication in REPLICAS for vm in found if vm not in known)
    originals = [vm for vm in found if vm.replication not in REPLICAS]
    if len(originals) == 1 and not known:
        return originals, True
    return [], False


def _within(
    there: Sequence[Candidate], pattern: str, once_called: Callable[[str], frozenset[UUID]]
) -> list[Candidate]:
    """VMs that a pattern of ``--limit`` leaves; a name that no VM has now is one from before a rename."""
    found = [vm for vm in there if _matches(vm, pattern)]
    if found or is_pattern(pattern):
        return found
    former = once_called(pattern)
    return [vm for vm in there if vm.vm_id in former]


def names_vm(selection: VmSelection, vm: Candidate) -> bool:
    """Whether the selection names the VM itself, rather than by a pattern."""
    return any(not is_pattern(text) and _matches(vm, text) for text in selection.include)


def is_pattern(text: str) -> bool:
    """Whether the text may match several names."""
    return any(sign in text for sign in "*?[")


def _matches(vm: Candidate, pattern: str) -> bool:
    folded = pattern.casefold()
    if folded in (vm.name.casefold(), str(vm.vm_id)):
        return True  # also names with brackets, which would be a set in a pattern
    return fnmatch.fnmatchcase(vm.name.casefold(), folded)


def matching_pattern(patterns: Sequence[str], slot: str, disk: DiskInfo) -> str | None:
    """The first pattern that a disk matches; None if it matches none.

    A pattern matches the slot (``scsi 0:1``) or any file of the chain, because the top file has another name
    while there is a checkpoint. Case is ignored, as on Windows.
    """
    names = [slot, *([] if disk.path is None else [disk.path]), *disk.chain]
    for pattern in patterns:
        folded = pattern.casefold()
        if any(fnmatch.fnmatchcase(name.casefold(), folded) for name in names):
            return pattern
    return None
