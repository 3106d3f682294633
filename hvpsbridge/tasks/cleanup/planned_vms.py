"""Planned VMs of restores that did not end: those with the mark are removed, others are named.

A live migration or an import by hand has a planned VM on the host, too. One that has the mark as notes is
that of the restore. One that appeared since the restore began, and has the name of its source and no mark,
may be what a script left that was killed before it could set the mark; a user decides.
"""

from __future__ import annotations

from collections.abc import Iterable

from hvpsbridge.contract.restoring import PlannedVm
from hvpsbridge.formats.ledger import RestoreIntent
from hvpsbridge.host.hyperv import HyperVHost


def remove_planned(host: HyperVHost, mark: str) -> tuple[PlannedVm, ...]:
    """Remove planned VMs with a mark, and return them.

    Raises:
        HostError: one cannot be removed.
    """
    marked = tuple(one for one in host.restoring.planned_vms() if one.notes == mark)
    for one in marked:
        host.restoring.remove_planned_vm(one.vm_id, one.name, mark)
    return marked


def unclear_planned(there: Iterable[PlannedVm], mark: str, intent: RestoreIntent) -> tuple[PlannedVm, ...]:
    """Planned VMs that a restore may have left before it could set its mark.

    Args:
        there: planned VMs of the host.
        mark: of the restore.
        intent: what it was about to make.
    """
    if not intent.config_files:
        return ()
    return tuple(
        one
        for one in there
        if one.notes != mark and str(one.vm_id) not in intent.planned_before and one.name == intent.source
    )
