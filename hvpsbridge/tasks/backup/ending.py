"""The deadline of what a backup still does on the host after it was stopped or failed."""

from __future__ import annotations

from hvpsbridge.errors import OperationTimedOut
from hvpsbridge.tasks.backup.context import BackupContext

# After the deadline the host has this long to answer that a job did not end in time, so that the report can
# name what is left.
ANSWER_SECONDS = 10.0


class Ending:
    """The time left for cleaning up the host, once a stop was requested or :meth:`begin` was called.

    The rest of a finished backup and the undo after it share one deadline.
    """

    def __init__(self, context: BackupContext) -> None:
        self._host = context.host.name
        self._cancel = context.cancel
        self._clock = context.clock
        self._seconds = context.options.limits.undo_seconds
        self._until: float | None = None

    def begin(self) -> None:
        """Start the deadline, unless it has started already."""
        if self._until is None:
            self._until = self._clock() + self._seconds

    @property
    def until(self) -> float | None:
        """When cleaning up must have ended, on the backup's clock; None while there is no deadline."""
        if self._cancel.requested:
            self.begin()
        return self._until

    def check(self) -> None:
        """Return if the host may be waited for.

        Raises:
            Interrupted: the user gave up the undo.
            OperationTimedOut: the deadline has passed.
        """
        if self._cancel.gave_up:
            raise self._cancel.error
        until = self.until
        if until is not None and self._clock() > until + ANSWER_SECONDS:
            raise OperationTimedOut(self._host, "cleaning up", self._seconds)

    def pause(self, seconds: float) -> bool:
        """Wait; false if cleaning up must end."""
        until = self.until
        return (until is None or self._clock() < until) and self._cancel.pause_undo(seconds)
