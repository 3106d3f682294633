"""Selects the VMs of a play, and the disks to exclude. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from hvpsbridge.contract.results import DiskInfo, VmState
from hvpsbridge.errors import AmbiguousVm, HostError, VmMissing
from hvpsbridge.options import Option


@dataclass(frozen=True, slots=True)
class Candidate:
    """A VM that may be selected; ``state`` is None if only the repository was asked."""

    vm_id: UUID
    name: str
    host: str = ""
    state: VmState | None = None


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
) -> tuple[tuple[Candidate, ...], tuple[HostError, ...]]:
    """The selected VMs, sorted by name, and what is wrong with the selection.

    A plain name must mean exactly one VM; none or two is an error, so that no VM is silently left out.
    Patterns may match any number.

    Args:
        vms: all VMs of all hosts of the play. One that two hosts list is moving between them and counts
            once.
        selection: of the play.
        hosts: their names, for errors.
        limit: patterns of ``--limit``; selects among the chosen VMs.
        complete: whether every host could be asked; if not, a missing name is not an error.
    """
    once = {vm.vm_id: vm for vm in vms}
    there = sorted(once.values(), key=lambda vm: (vm.name.casefold(), str(vm.vm_id)))
    chosen: dict[UUID, Candidate] = {}
    problems: list[HostError] = []
    for pattern in selection.include:
        found = [vm for vm in there if _matches(vm, pattern)]
        if not _is_pattern(pattern):
            if not found and complete:
                problems.append(VmMissing(hosts, pattern))
            elif len(found) > 1:
                problems.append(AmbiguousVm(hosts, pattern, tuple(str(vm.vm_id) for vm in found)))
                continue
        chosen.update((vm.vm_id, vm) for vm in found)
    states = {state.value for state in selection.state}
    taken = [
        vm
        for vm in there
        if vm.vm_id in chosen
        and not any(_matches(vm, pattern) for pattern in selection.exclude)
        and (not states or vm.state is None or vm.state.value in states)
        and (not limit or any(_matches(vm, pattern) for pattern in limit))
    ]
    return tuple(taken), tuple(problems)


def _is_pattern(text: str) -> bool:
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
