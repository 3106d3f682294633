"""The children of a checkpoint, and the wait until they are merged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from uuid import UUID

from hvpsbridge.contract.results import DiskInfo
from hvpsbridge.errors import CommitForkFailed, OperationFailed, OperationTimedOut, VmNotFound
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.tasks.policy import BackupLimits


def children_of(frozen: Iterable[str], disks: Iterable[DiskInfo]) -> tuple[str, ...]:
    """Files of the VM's ``disks`` above the ``frozen`` files of a checkpoint; merged when it is removed."""
    tops = {path.casefold() for path in frozen}
    return tuple(
        above
        for disk in disks
        for above, below in zip(disk.chain, disk.chain[1:], strict=False)
        if below.casefold() in tops
    )


def wait_for_merge(
    host: HyperVHost,
    vm_id: UUID,
    children: tuple[str, ...],
    limits: BackupLimits,
    pause: Callable[[float], bool],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[str, ...]:
    """Wait until none of ``children`` is on a chain of the VM; a line for each that still is.

    It does not wait for anything else: a user may have added a disk or a checkpoint meanwhile
    (docs/hyperv-facts.md#merge-after-removal). While a merge switches files, the host may not be able to say
    which they are (docs/hyperv-facts.md#get-vhd-in-use), so that only the deadline ends the waiting.

    Raises:
        VmNotFound: the VM is not on the host any more.
        CommitForkFailed: waiting cannot solve that.
        HostError: the connection is lost.
    """
    until = clock() + limits.merge_seconds
    while children:
        unknown = ""
        try:
            state = host.merge_state(vm_id)
        except (VmNotFound, CommitForkFailed):
            raise
        except (OperationFailed, OperationTimedOut) as err:
            unknown = err.describe()
        else:
            chains = {path.casefold() for path in state.chain_paths}
            if state.unread_paths:
                unknown = f"{', '.join(state.unread_paths)} cannot be read now"
            else:
                children = tuple(path for path in children if path.casefold() in chains)
        if children and (clock() > until or not pause(limits.poll_seconds)):
            state_text = f"may still be merged: {unknown}" if unknown else "is still being merged"
            return tuple(f"{path} {state_text}" for path in children)
    return ()
