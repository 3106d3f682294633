"""Ends change tracking of a VM's disks before a restore or an undo writes into them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from hvpsbridge.errors import HostNotClean
from hvpsbridge.formats.in_place import InPlaceRestore
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.cleanup.cleaner import clean_up, close_run
from hvpsbridge.tasks.cleanup.context import CleanupContext
from hvpsbridge.tasks.cleanup.reference_points import ReferencePoints
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.policy import BackupLimits

logger = logging.getLogger(__name__)


def forget_tracking(
    host: HyperVHost,
    repository: Repository,
    run_id: UUID,
    restore: InPlaceRestore,
    pause: Callable[[float], bool],
) -> tuple[str, ...]:
    """Clean up after earlier backups of a VM and destroy our reference points; a line for those of others.

    Args:
        host: the host.
        repository: the one whose reference points are destroyed.
        run_id: of this run, which holds the lease of the VM.
        restore: into the disks of the VM.
        pause: waits for that many seconds; false ends the waiting.

    Raises:
        HostNotClean: one of them is left.
    """
    journal = Journal(repository.ledger(restore.vm_id), run_id, restore.vm_id, host.name)
    cleanup = CleanupContext(
        host=host,
        repository=repository,
        vm_id=restore.vm_id,
        journal=journal,
        limits=BackupLimits(),
        own_run=run_id,
        pause=pause,
        note=lambda text: logger.info("%s", text),
    )
    references = ReferencePoints(cleanup)
    left = (*clean_up(cleanup, references), *references.forget())
    if left:
        raise HostNotClean(host.name, restore.vm_name, left)
    close_run(cleanup, references, note="before a restore in place")
    others = [one.instance_id for one in host.reference_points(restore.vm_id)]
    if not others:
        return ()
    line = (
        f"other products have reference points of the VM ({', '.join(others)}); their next backup may miss "
        "what the restore writes, so make a full one with them"
    )
    logger.warning("%s", line)
    return (line,)
