"""The shell that holds all readers of one frozen disk, from opening it to seeing the disk detached.

Only one process of the host can attach a disk (docs/hyperv-facts.md#attach-exclusive), so a disk has one
shell. The shell of a dead client keeps the disk attached, so each shell is in the ledger before it reads.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from hvpsbridge.backoff import Backoff, retry
from hvpsbridge.contract.readings import DigestPage
from hvpsbridge.contract.results import DiskTracking
from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import (
    DiskBusy,
    HostUnreachable,
    HvpsError,
    InternalError,
    SessionLost,
)
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import DIGEST_BYTES
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.settings import RetryLimits
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.transfer.shell_slots import ShellSlots

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long to keep trying to open a shell on a host that answered a moment ago: its WinRM service restarts
# within seconds. A reboot takes minutes; the pump's RetryLimits cover that.
OPEN_SECONDS = 60.0
# How long a disk may be attached elsewhere: Windows may still be detaching it from a process that has ended
# (docs/hyperv-facts.md#detach-on-close).
BUSY_SECONDS = 30.0


def open_shell(host: HyperVHost, retry_limits: RetryLimits, pause: Callable[[float], None]) -> HyperVHost:
    """A further shell on a host that is known to answer; tried again while the host does not answer.

    Args:
        host: the host.
        retry_limits: pauses, and how long to try if that is less than :data:`OPEN_SECONDS`.
        pause: waits for so many seconds; raises when the backup must stop.

    Raises:
        HostError: the host did not answer for :data:`OPEN_SECONDS`, or refused.
    """
    backoff = Backoff(
        retry_limits.first_pause_seconds,
        retry_limits.longest_pause_seconds,
        give_up_seconds=min(OPEN_SECONDS, retry_limits.resume_seconds),
    )
    return retry(
        host.new_shell,
        (SessionLost, HostUnreachable),
        backoff,
        pause=pause,
        on_retry=lambda err, seconds: logger.warning(
            "cannot open a shell, trying again in %.1f s: %s", seconds, err
        ),
    )


class DiskReader:
    """Reads one frozen disk.

    It has a shell while it is in use, and may have to give it up while it is idle: shells are limited.

    Args:
        open_shell: opens a shell for this disk alone; called when the disk is used and has no shell.
        path: the frozen file.
        journal: where shells are recorded.
        host: name of the host.
        slots: limits the shells of the host.
        check: raises when the backup must stop.
        pause: waits for so many seconds; raises when the backup must stop.
    """

    def __init__(
        self,
        open_shell: Callable[[], HyperVHost],
        path: str,
        journal: Journal,
        host: str,
        slots: ShellSlots,
        check: Callable[[], None],
        pause: Callable[[float], None],
    ) -> None:
        self.path = path
        self._open_shell = open_shell
        self._journal = journal
        self._host = host
        self._slots = slots
        self._check = check
        self._pause = pause
        self._lock = threading.RLock()
        self._opened: HyperVHost | None = None
        self._known_shell = ""
        self._depth = 0

    @property
    def shell_id(self) -> str:
        """The shell in use."""
        return self._known_shell

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Any thread may read the disk while the block runs; blocks may be nested."""
        self._depth += 1
        try:
            if self._depth == 1:
                self._slots.acquire(self._host, self, self._check)
                self._ensure_shell()
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                if self._opened is None:
                    self._slots.release(self._host, self)
                else:
                    self._slots.mark_idle(self._host, self)

    def _ensure_shell(self) -> None:
        # A shell that is being given up holds the disk until it has ended; the lock is held for as long.
        with self._lock:
            if self._opened is not None:
                return
            self._opened = self._open_shell()
            try:
                self._record_shell()
            except BaseException:
                self._end_shell()
                raise

    @property
    def _shell(self) -> HyperVHost:
        assert self._opened is not None, "a disk is read only within in_use()"
        return self._opened

    def open(self) -> BlockSource:
        """A reader pipeline. If the shell was lost, a new one replaces it, and the lost one is ended."""
        source = self._shell.open_reader(self.path)
        self._record_shell()
        return source

    def tracking(self) -> DiskTracking:
        """Size and change tracking, as the handle that reads the disk reports them.

        Raises:
            DiskBusy: another process has the disk, for longer than :data:`BUSY_SECONDS`.
        """
        found = self._when_free(lambda: self._shell.tracking(self.path))
        self._record_shell()
        return found

    def changes(self, rct_id: str, size_bytes: int) -> tuple[Extent, ...]:
        """What changed on the disk since ``rct_id``, as change tracking reports it; a sorted set.

        Raises:
            TrackingUnusable: change tracking cannot answer for that id.
        """
        found = self._when_free(lambda: self._shell.changes(self.path, rct_id, size_bytes))
        self._record_shell()
        return found

    def _when_free(self, call: Callable[[], T]) -> T:
        """The result of ``call``, tried again while another process has the disk."""
        return retry(call, DiskBusy, self._new_backoff(), pause=self._pause, on_retry=self._busy)

    def _new_backoff(self) -> Backoff:
        return Backoff(0.2, 5.0, give_up_seconds=BUSY_SECONDS)

    def _busy(self, err: Exception, seconds: float) -> float:
        logger.info("%s is still in use, trying again in %.1f s: %s", self.path, seconds, err)
        # If the session was lost, its shell is ended now, and lets go of the disk.
        self._record_shell()
        return seconds

    def allocation(self, chain: tuple[str, ...], size_bytes: int) -> tuple[Extent, ...]:
        """Where the files hold data.

        Raises:
            OperationFailed: the files cannot be opened beside the disk, or their format does not tell.
            HostRefused: they must not be opened.
        """
        return self._shell.allocation(chain, size_bytes)

    def digests(self, chunk_bytes: int, extent: Extent) -> Iterator[DigestPage]:
        """SHA-256 of each chunk of ``extent``, in order, hashed on the host."""
        position, backoff = extent.offset, self._new_backoff()
        while position < extent.end:
            try:
                for page in self._shell.digests(self.path, chunk_bytes, position, extent.end - position):
                    position = (page.first_chunk + len(page.digests) // DIGEST_BYTES) * chunk_bytes
                    backoff.reset()
                    yield page
            except DiskBusy as err:
                # The session was lost, and the process of the old one still has the disk.
                self._pause(self._busy(err, backoff.failed(err)))
        self._record_shell()

    def close(self) -> None:
        """Close every reader of the disk, check that it is detached, and end the shell.

        Raises:
            InternalError: the disk is still attached.
            HostError: the host could not be asked.
        """
        try:
            self._detach()
        finally:
            self._slots.release(self._host, self)

    def abandon(self) -> None:
        """End the shell, if there is one, and with it the process that holds the disk. Never raises."""
        with contextlib.suppress(HvpsError):
            self.close()

    def give_up_shell(self) -> None:
        """End the shell, so that another disk can have one. Never raises."""
        logger.info("closing the shell of %s to make room for another disk", self.path)
        try:
            self._detach()
        except HvpsError as err:
            # The shell has ended all the same, which detaches the disk; if not, the host's watchdog does.
            logger.warning("cannot confirm that the readers of %s closed: %s", self.path, err)

    def _detach(self) -> None:
        with self._lock:
            if self._opened is None:
                return
            try:
                state = self._opened.close_readers(self.path)
                if self.path in state.open_paths:
                    raise InternalError(f"the readers of {self.path} did not close")
            finally:
                self._end_shell()

    def _end_shell(self) -> None:
        assert self._opened is not None
        self._opened.close()
        self._opened = None
        self._known_shell = ""

    def _record_shell(self) -> None:
        with self._lock:
            current = self._shell.shell_id
            if current == self._known_shell:
                return
            lost, self._known_shell = self._known_shell, current
            self._journal.shell_opened(current, self._shell.host_info())
            if lost:
                # Best effort: if it fails, the disk is in use until the watchdog closes it.
                with contextlib.suppress(HvpsError):
                    self._shell.end_shell(lost)
