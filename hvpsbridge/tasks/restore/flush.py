"""Writes what was written to a file to the disk while more is written, so that the last flush is short."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

from hvpsbridge.units import MIB

# The kernel would begin only when a tenth of the memory is dirty.
FLUSH_BYTES = 128 * MIB


class EarlyFlush:
    """Flushes a file now and then, on a thread of its own. Not thread-safe.

    Args:
        file: its descriptor, open until :meth:`close`.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None
        self._unflushed_bytes = 0

    def wrote(self, count: int) -> None:
        """Count what was written, and flush it if it is enough.

        Raises:
            OSError: the flush before failed. The kernel reports such an error once.
        """
        self._unflushed_bytes += count
        if self._unflushed_bytes < FLUSH_BYTES:
            return
        if self._running is not None:
            if not self._running.done():
                return
            self._running.result()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._unflushed_bytes = 0
        self._running = self._pool.submit(os.fdatasync, self._file)

    def finish(self) -> None:
        """Wait for the flush that runs.

        Raises:
            OSError: it failed.
        """
        if self._running is not None:
            self._running.result()

    def close(self) -> None:
        """End the thread."""
        if self._pool is not None:
            self._pool.shutdown()
