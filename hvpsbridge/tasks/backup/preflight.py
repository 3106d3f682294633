"""What would fail only after the checkpoint was made: shares that do not open, reads that take too long."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hvpsbridge.contract.results import DiskInfo
from hvpsbridge.errors import HostError, NotEligible
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.state import BackupState
from hvpsbridge.tasks.planning.estimate import duration_finding, full_bytes
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.planning.plan import DiskPlan
from hvpsbridge.tasks.planning.storage import share_findings, share_of, unwatched
from hvpsbridge.units import MIB

logger = logging.getLogger(__name__)

# Slower than any host that was measured: what fits the checkpoint's age at this rate needs no measurement.
SLOWEST_BYTES = 1 * MIB


def check_shares(context: BackupContext, state: BackupState, drives: Sequence[DiskInfo]) -> None:
    """Open a disk on each share for information, and note that free space is not watched there.

    Raises:
        NotEligible: the login cannot open one.
    """
    first: dict[str, str] = {}
    for drive in drives:
        share = share_of(drive.path or "")
        if share is not None and drive.path is not None:
            first.setdefault(share, drive.path)
    if not first:
        return
    refused = list(share_findings(context.host.checks.probe_disk(path) for path in first.values()))
    if refused:
        state.findings = (*refused, *state.findings)
        raise NotEligible(context.vm_name, str(refused[0]))
    state.findings = (*state.findings, *map(unwatched, first))


def note_duration(
    context: BackupContext, state: BackupState, drives: Sequence[DiskInfo], plans: Sequence[DiskPlan]
) -> None:
    """Add a note to the findings if reading all fulls takes longer than the checkpoint may get old.

    Measures the host once in a run, and only for VMs that are large enough.
    """
    size = full_bytes(drive for drive, plan in zip(drives, plans, strict=True) if plan.mode is Mode.FULL)
    age = context.options.limits.checkpoint_age
    if size <= SLOWEST_BYTES * age:
        return
    try:
        rate = context.shared.rates.of(
            context.host.name, lambda: context.host.checks.measure_rate().rate_bytes
        )
    except HostError as err:
        logger.info("host %s: its rate could not be measured: %s", context.host.name, err)
        return
    if (found := duration_finding(size, rate, age)) is not None:
        state.findings = (*state.findings, found)
