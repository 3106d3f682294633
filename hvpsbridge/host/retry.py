"""Whether and when an operation is tried again. The door to tenacity.

Rule: the effect decides. What only reads is repeated; what removes is repeated, since what is gone
counts as removed; what creates is never repeated here, because nobody knows whether it happened: the
caller looks first. An error that the host itself reported is an answer and is never retried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import tenacity

from hvpsbridge.contract import Effect
from hvpsbridge.errors import HostBusy, HostError, HostUnreachable, SessionLost

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A host that restarts its WinRM service is back within seconds, one that reboots is not worth the wait
# here: the run has its own deadline and may come back to it.
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 15.0


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
        call: does it once.
        renew: gets a working session before another try; when it fails that counts as the try.
        attempts: tries in all.
        first_pause_seconds: before the second try; doubled each time.

    Raises:
        SessionLost: the last try's, or the only one's of an operation that creates.
    """
    if effect is Effect.CREATES:
        return call()
    lost = False

    def one() -> T:
        nonlocal lost
        if lost:
            renew()
            lost = False
        try:
            return call()
        except SessionLost:
            lost = True
            raise

    return _retrying((SessionLost, HostUnreachable), attempts, first_pause_seconds)(one)


def while_busy(
    call: Callable[[], T], *, attempts: int = ATTEMPTS, first_pause_seconds: float = FIRST_PAUSE_SECONDS
) -> T:
    """The result of ``call``, which opens a shell, tried again while the host answers that it cannot now.

    Nothing else is tried again: an address where nobody answers is told to the user at once.

    Raises:
        HostBusy: the last try's.
    """
    return _retrying((HostBusy,), attempts, first_pause_seconds)(call)


def _retrying(
    passing: tuple[type[HostError], ...], attempts: int, first_pause_seconds: float
) -> tenacity.Retrying:
    """Tries again after errors of the ``passing`` classes; the last try's error is raised as it is."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(passing),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential(multiplier=first_pause_seconds, max=LONGEST_PAUSE_SECONDS),
        before_sleep=_report,
        reraise=True,
    )


def _report(state: tenacity.RetryCallState) -> None:
    err = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0
    logger.warning("try %d: %s; again in %.0f s", state.attempt_number, err, pause)
