"""Standard streams that survive the loss of their reader.

On a closed terminal each write fails with EIO, on a pipe without a reader with EPIPE. That must not stop a
backup, and least of all an undo. Standard output keeps EPIPE, so that ``hvps list | head`` ends at once.
"""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Container
from typing import Any, TextIO

_TERMINAL_CLOSED = frozenset({errno.EIO})
_READER_GONE = frozenset({errno.EIO, errno.EPIPE})


class _IgnoringErrors(io.FileIO):
    """A file that counts a write as done if it fails with certain errors."""

    def __init__(self, descriptor: int, ignored: Container[int]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._ignored = ignored

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as err:
            if err.errno not in self._ignored:
                raise
            return memoryview(data).nbytes


def _ignoring(stream: TextIO, ignored: Container[int]) -> TextIO:
    stream.flush()
    raw = io.BufferedWriter(_IgnoringErrors(stream.fileno(), ignored))
    return io.TextIOWrapper(
        raw, encoding=stream.encoding, errors=stream.errors, line_buffering=stream.isatty()
    )


def ignore_broken_pipe() -> None:
    """Keep standard output and error usable when their reader is gone. Call it once, at the start."""
    if sys.stdout is not None:
        sys.stdout = _ignoring(sys.stdout, _TERMINAL_CLOSED)
    if sys.stderr is not None:
        sys.stderr = _ignoring(sys.stderr, _READER_GONE)
