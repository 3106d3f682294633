"""Retries for remote stores: of reads, and of creations in a way that they happen only once."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from hvpsbridge.backoff import Backoff, retry
from hvpsbridge.errors import Damaged, ObjectExists, ObjectMissing, StoreError

logger = logging.getLogger(__name__)
T = TypeVar("T")

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 20.0
NOTICE_SECONDS = 2.0


class Unreachable(StoreError):
    """The store did not answer, or reported a temporary failure; a retry may help."""


def persist(action: Callable[[], T], *, attempts: int = ATTEMPTS, pause_seconds: float | None = None) -> T:
    """The result of ``action``, retried with growing pauses while the store cannot be reached.

    Raises:
        Unreachable: the last attempt failed, too.
    """
    first_pause_seconds = FIRST_PAUSE_SECONDS if pause_seconds is None else pause_seconds
    return retry(
        action,
        Unreachable,
        Backoff(first_pause_seconds, MAX_PAUSE_SECONDS, max_failures=attempts),
        # Random, so that many writers do not come back at the same time.
        pause=lambda seconds: time.sleep(seconds * random.uniform(0.5, 1.0)),  # noqa: S311 (no secret)
        on_retry=lambda err, seconds: logger.log(
            # A short hiccup is not worth a line; a longer wait must not be silent.
            logging.WARNING if seconds >= NOTICE_SECONDS else logging.INFO,
            "%s; trying again in %.0f s",
            err,
            seconds,
        ),
    )


def create_once(
    create: Callable[[], None],
    is_stored: Callable[[], bool],
    *,
    attempts: int = ATTEMPTS,
    pause_seconds: float | None = None,
) -> None:
    """Create an object although answers may get lost.

    An attempt that seems to fail may have created the object. If the next one finds the name taken, the
    object there is compared.

    Args:
        create: sends the object; every time the same bytes.
        is_stored: whether the object under that name has these bytes.
        attempts: how often to try.
        pause_seconds: pause after the first failure.

    Raises:
        ObjectExists: the name is taken by another object, or was taken before the first attempt.
        Unreachable: no attempt was answered.
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
            if not (uncertain and _exists(is_stored)):
                raise

    persist(attempt, attempts=attempts, pause_seconds=pause_seconds)


def _exists(is_stored: Callable[[], bool]) -> bool:
    try:
        return is_stored()
    except (ObjectMissing, Damaged):  # none, or one of another size
        return False
