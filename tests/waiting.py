"""Waiting for a state, never for a time: a test must hold on a machine that is busy with something else."""

from __future__ import annotations

import time
from collections.abc import Callable

# A safety net, so that a state that never comes is a failure with a name. No test may depend on its length.
DEADLINE_SECONDS = 120.0
_POLL_SECONDS = 0.02


def wait_until(reached: Callable[[], object], what: object = "") -> None:
    """Return as soon as ``reached()`` is true.

    Args:
        reached: looks at the state.
        what: what is waited for, for the message; shown as it is when the wait ends without it.
    """
    end = time.monotonic() + DEADLINE_SECONDS
    while not reached():
        assert time.monotonic() < end, what or "the state that was waited for never came"
        time.sleep(_POLL_SECONDS)
