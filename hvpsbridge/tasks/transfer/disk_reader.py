"""The shell in which all readers of one frozen disk live, from opening it to seeing the disk given up.

An attach is exclusive to one process of the host (docs/hyperv-facts.md#attach-exclusive), so a disk has one
shell; and a dead client's shell keeps the disk, so each shell is in the ledger before it reads.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from hvpsbridge.backoff import Backoff, retry
from hvpsbridge.contract.results import DigestPage
from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import HostUnreachable, HvpsError, InternalError, OperationFailed, SessionLost
from hvpsbridge.formats.extents import Extent
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.settings import RetryLimits
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.transfer.shell_slots import ShellPlaces

logger = logging.getLogger(__name__)

# Error id of a host that cannot tell which parts of a file hold data.
FORMAT_UNSUPPORTED = "Hvps.FormatUnsupported"
# How long to keep trying to open a shell on a host that answered a moment ago: its WinRM service restarts
# within seconds. A reboot takes minutes; the pump's RetryLimits cover that.
OPEN_SECONDS = 60.0


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

    Its shell is there while it works, and may be taken from it while it does not: a host has only so many.

    Args:
        open_shell: gives a shell for this disk alone; called whenever there is work and no shell.
        path: the frozen file.
        journal: where shells are written down.
        host: name of the host.
        places: how many shells there may be.
        check: raises when the backup is to stop.
    """

    def __init__(
        self,
        open_shell: Callable[[], HyperVHost],
        path: str,
        journal: Journal,
        host: str,
        places: ShellPlaces,
        check: Callable[[], None],
    ) -> None:
        self.path = path
        self._open_shell = open_shell
        self._journal = journal
        self._host = host
        self._places = places
        self._check = check
        self._lock = threading.RLock()
        self._opened: HyperVHost | None = None
        self._known_shell = ""
        self._depth = 0

    @property
    def shell_id(self) -> str:
        """The shell in use."""
        return self._known_shell

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """The disk can be read while entered, by any thread; entering again within is nothing."""
        self._depth += 1
        try:
            if self._depth == 1:
                self._places.work(self._host, self, self._check)
                self._have_shell()
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                if self._opened is None:
                    self._places.leave(self._host, self)
                else:
                    self._places.rest(self._host, self)

    def _have_shell(self) -> None:
        # A shell that is just being let go holds the disk until it is gone; the lock is held as long.
        with self._lock:
            if self._opened is not None:
                return
            self._opened = self._open_shell()
            try:
                self._note_shell()
            except BaseException:
                self._forget_shell()
                raise

    @property
    def _shell(self) -> HyperVHost:
        assert self._opened is not None, "a disk is read only within working()"
        return self._opened

    def open(self) -> BlockSource:
        """A reader pipeline. A lost shell is replaced, and the lost one ended so that it lets the disk go."""
        source = self._shell.open_reader(self.path)
        self._note_shell()
        return source

    def changes(self, rct_id: str, size_bytes: int) -> tuple[Extent, ...]:
        """See :meth:`HyperVHost.changes`."""
        found = self._shell.changes(self.path, rct_id, size_bytes)
        self._note_shell()
        return found

    def allocation(self, chain: tuple[str, ...], size_bytes: int) -> tuple[Extent, ...] | None:
        """What the files hold data for; None when the host cannot tell, and all of it must be read."""
        try:
            return self._shell.allocation(chain, size_bytes)
        except OperationFailed as err:
            if err.error_id != FORMAT_UNSUPPORTED:
                raise
            logger.info("allocation of %s is not known: %s", self.path, err)
            return None

    def digests(self, chunk_bytes: int, extent: Extent) -> Iterator[DigestPage]:
        """See :meth:`HyperVHost.digests`."""
        yield from self._shell.digests(self.path, chunk_bytes, extent.offset, extent.length)
        self._note_shell()

    def close(self) -> None:
        """Close every reader of the disk and see that it is attached no more; end the shell.

        Raises:
            InternalError: the disk is still attached.
            HostError: the host could not be asked.
        """
        try:
            self._detach()
        finally:
            self._places.leave(self._host, self)

    def abandon(self) -> None:
        """End the shell, and with it the process that holds the disk. Never raises."""
        with contextlib.suppress(HvpsError):
            self.close()

    def let_go(self) -> None:
        """See :class:`~hvpsbridge.tasks.transfer.shell_slots.Resting`."""
        logger.info("the shell of %s is closed for another disk's", self.path)
        try:
            self._detach()
        except HvpsError as err:
            # The shell is ended all the same, and the disk with it; else the host's watchdog sees to that.
            logger.warning("readers of %s were not seen to close: %s", self.path, err)

    def _detach(self) -> None:
        with self._lock:
            if self._opened is None:
                return
            try:
                state = self._opened.close_readers(self.path)
                if self.path in state.open_paths:
                    raise InternalError(f"readers of {self.path} do not close")
            finally:
                self._forget_shell()

    def _forget_shell(self) -> None:
        assert self._opened is not None
        self._opened.close()
        self._opened = None
        self._known_shell = ""

    def _note_shell(self) -> None:
        with self._lock:
            current = self._shell.shell_id
            if current == self._known_shell:
                return
            lost, self._known_shell = self._known_shell, current
            self._journal.shell_opened(current, self._shell.host_info())
            if lost:
                # Best effort: the next attempt meets a busy disk until the watchdog closes it.
                with contextlib.suppress(HvpsError):
                    self._shell.end_shell(lost)
