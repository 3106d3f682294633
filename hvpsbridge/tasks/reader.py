"""The shell in which all readers of one frozen disk live, from opening it to seeing the disk given up.

An attach is exclusive to one process of the host (reference 0.1, 7), so a disk has one shell; and a dead
client's shell keeps the disk, so each shell is in the ledger before it reads.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from hvpsbridge.contract.results import DigestPage
from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import HvpsError, InternalError, OperationFailed
from hvpsbridge.formats.extents import Extent
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.tasks.journal import Journal

_LOG = logging.getLogger(__name__)

# Error id of a host that cannot tell which parts of a file hold data.
FORMAT_UNSUPPORTED = "Hvps.FormatUnsupported"


class DiskReader:
    """Reads one frozen disk.

    Args:
        host: the host; gives the shell.
        path: the frozen file.
        journal: where shells are written down.
    """

    def __init__(self, host: HyperVHost, path: str, journal: Journal) -> None:
        self.path = path
        self._journal = journal
        self._lock = threading.Lock()
        self._shell = host.new_shell()
        self._known_shell = ""
        try:
            self._note_shell()
        except BaseException:
            self._shell.close()
            raise

    @property
    def shell_id(self) -> str:
        """The shell in use."""
        return self._known_shell

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
            _LOG.info("allocation of %s is not known: %s", self.path, err)
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
            state = self._shell.close_readers(self.path)
            if self.path in state.open_paths:
                raise InternalError(f"readers of {self.path} do not close")
        finally:
            self._shell.close()

    def abandon(self) -> None:
        """End the shell, and with it the process that holds the disk. Never raises."""
        with contextlib.suppress(HvpsError):
            self._shell.close_readers(self.path)
        self._shell.close()

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
