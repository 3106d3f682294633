"""Whether an operation may be tried again, and when.

The effect decides. Operations that read are repeated, also while a VM or a disk is in use for a moment.
Operations that remove are repeated, since an object that is gone counts as removed. Operations that create
are never repeated here, because it is unknown whether the first try succeeded: the caller looks first. Any
other error that the host reported is an answer and is never retried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from hvpsbridge import stopping
from hvpsbridge.backoff import Backoff, retry
from hvpsbridge.contract import Effect
from hvpsbridge.errors import DiskBusy, HostBusy, HostError, HostUnreachable, SessionLost, VmBusy

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A WinRM service that restarts is back within seconds. A reboot takes longer than is worth waiting here: the
# run has its own deadline and may come back to the host.
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 15.0
# Fifteen seconds in all.
BUSY_ATTEMPTS = 5


def by_effect(
    effect: Effect,
    call: Callable[[], T],
    renew: Callable[[], None],
    *,
    attempts: int = ATTEMPTS,
    first_pause_seconds: float = FIRST_PAUSE_SECONDS,
) -> T:
    """The result of ``call``, tried again as far as ``effect`` allows.

    Args:
        effect: of the operation.
        call: performs the operation once.
        renew: opens a working session before another try; its failure counts as a try.
        attempts: number of tries.
        first_pause_seconds: pause before the second try; doubles from try to try.

    Raises:
        SessionLost: from the last try, or from the only one of an operation that creates.
    """
    if effect is Effect.CREATES:
        return call()
    if effect is Effect.READS:
        call = partial(while_vm_busy, call, first_pause_seconds=first_pause_seconds)
    lost = False

    def one_try() -> T:
        nonlocal lost
        if lost:
            renew()
            lost = False
        try:
            return call()
        except SessionLost:
            lost = True
            raise

    return _retry(one_try, (SessionLost, HostUnreachable), attempts, first_pause_seconds)


def while_vm_busy(call: Callable[[], T], *, first_pause_seconds: float = FIRST_PAUSE_SECONDS) -> T:
    """The result of ``call``, which reads, tried again while the host says that the VM or a disk is in use.

    Cmdlets say so for moments, for example when a merge ends (docs/hyperv-facts.md#get-vhd-in-use).

    Raises:
        VmBusy: from the last try.
        DiskBusy: the same.
    """
    return _retry(call, (VmBusy, DiskBusy), BUSY_ATTEMPTS, first_pause_seconds)


def while_busy(
    call: Callable[[], T], *, attempts: int = ATTEMPTS, first_pause_seconds: float = FIRST_PAUSE_SECONDS
) -> T:
    """The result of ``call``, which opens a shell, tried again while the host reports that it is busy.

    Other errors are raised at once, so that a user learns of a wrong address without delay.

    Raises:
        HostBusy: from the last try.
    """
    return _retry(call, (HostBusy,), attempts, first_pause_seconds)


def _retry(
    call: Callable[[], T], errors: tuple[type[HostError], ...], attempts: int, first_pause_seconds: float
) -> T:
    backoff = Backoff(first_pause_seconds, LONGEST_PAUSE_SECONDS, max_failures=attempts)
    return retry(
        call,
        errors,
        backoff,
        pause=stopping.pause,
        on_retry=lambda err, seconds: logger.warning(
            "try %d failed: %s; trying again in %.0f s", backoff.failures, err, seconds
        ),
    )
