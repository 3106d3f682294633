"""What the event logs of a host have about a backup that failed there.

Asked once, after everything else. Nothing is decided by it, and a host that does not answer costs a line in
the log of hvps only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from hvpsbridge.contract.checks import EventInfo
from hvpsbridge.errors import HostError, HostUnreachable, HvpsError, SessionLost, StaysBusy
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.state import BackupState
from hvpsbridge.text import one_line

logger = logging.getLogger(__name__)

_DRIVE = re.compile(r"[A-Za-z]:|\\(?=\\)")
MAX_EVENTS = 20
MAX_LETTERS = 500
# The clocks of the host and of its services may differ a little, and what failed may have begun before.
EARLIER_SECONDS = 60.0
# Errors whose reason may be in the logs. A VM that is busy for days may have a lock that stays.
_TELLING = (HostError, StaysBusy)
# After these the host cannot be asked.
_SILENT = (HostUnreachable, SessionLost)


def gather(
    context: BackupContext, state: BackupState, started: datetime, error: HvpsError | None
) -> tuple[EventInfo, ...]:
    """Entries about the VM since the backup began, oldest first; none unless the host failed.

    Args:
        context: the backup.
        state: of the last attempt.
        started: when the first attempt began.
        error: the error that ended the backup.
    """
    errors = [error, *state.conditions, *state.host_failures]
    failures = [one for one in errors if isinstance(one, _TELLING) and not isinstance(one, _SILENT)]
    if not failures or context.cancel.requested:
        return ()
    seconds = (datetime.now(UTC) - started).total_seconds() + EARLIER_SECONDS
    try:
        # The undo has ended the shell of the backup.
        with context.host.new_shell() as host:
            events = host.checks.events(context.vm_id, seconds, _stems(state), MAX_EVENTS)
    except Exception as err:  # noqa: BLE001 - evidence must not change a result
        logger.info("VM %s: the event logs could not be read: %s", context.vm_name, err)
        return ()
    return tuple(
        replace(event, text=one_line(event.text, MAX_LETTERS), log=one_line(event.log, MAX_LETTERS))
        for event in reversed(events)
    )


def _stems(state: BackupState) -> Iterable[str]:
    """The VM's disk files without drive and extension.

    The disk driver may name a volume by its device instead of its drive.
    """
    if state.plan is None:
        return ()
    chains = (disk.facts.chain for disk in state.plan.disks)
    return sorted({_DRIVE.sub("", chain[-1]).rpartition(".")[0] for chain in chains if chain})
