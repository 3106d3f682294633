"""Trying again, for stores behind a network: reads at will, creations so that they happen once."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from hvpsbridge.backoff import Backoff, retry
from hvpsbridge.errors import ObjectExists, ObjectMissing, StoreError

logger = logging.getLogger(__name__)
T = TypeVar("T")

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 20.0


class Unreachable(StoreError):
    """The store did not answer, or said that it could not now. Worth another try."""


def persist(action: Callable[[], T], *, attempts: int = ATTEMPTS, pause_seconds: float | None = None) -> T:
    """The result of ``action``, tried again with growing pauses while the store cannot be reached.

    Raises:
        Unreachable: the last try failed as well.
    """
    first_pause_seconds = FIRST_PAUSE_SECONDS if pause_seconds is None else pause_seconds
    return retry(
        action,
        Unreachable,
        Backoff(first_pause_seconds, MAX_PAUSE_SECONDS, max_failures=attempts),
        # Spread, so that many writers do not come back at the same moment.
        pause=lambda seconds: time.sleep(seconds * random.uniform(0.5, 1.0)),  # noqa: S311 (no secret)
        on_retry=lambda err, _seconds: logger.info("%s; trying again", err),
    )


def create_once(
    create: Callable[[], None],
    is_ours: Callable[[], bool],
    *,
    attempts: int = ATTEMPTS,
    pause_seconds: float | None = None,
) -> None:
    """Create an object although answers may get lost. Every try sends the same bytes.

    A try that seemed to fail may have created the object. When a later one then finds the name taken,
    ``is_ours`` tells whether what is there is what we sent.

    Raises:
        ObjectExists: the name is taken by something else, or was before we began.
        Unreachable: no try was answered.
    """
    uncertain = False

    def attempt() -> None:
        nonlocal uncertain
        try:
            create()
        except Unreachable:
            uncertain = True
            raise
        except ObjectExists:
            if not (uncertain and _answered(is_ours)):
                raise

    persist(attempt, attempts=attempts, pause_seconds=pause_seconds)


def _answered(is_ours: Callable[[], bool]) -> bool:
    try:
        return is_ours()
    except ObjectMissing:
        return False
