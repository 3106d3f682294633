"""Standard streams that go on when nobody reads them any more.

A closed terminal fails every write with EIO, and a pipe whose reader has gone with EPIPE. What is said then
has no listener, which is no reason for a worker to fail, least of all within an undo. Standard output keeps
its EPIPE: ``hvps list | head`` ends there, and ends well.
"""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Container
from typing import Any, TextIO

_GONE = frozenset({errno.EIO})
_GONE_OR_SHUT = frozenset({errno.EIO, errno.EPIPE})


class _Deaf(io.FileIO):
    """A descriptor whose failures of some kinds count as written."""

    def __init__(self, descriptor: int, passed_over: Container[int]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._passed_over = passed_over

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as err:
            if err.errno not in self._passed_over:
                raise
            return memoryview(data).nbytes


def _outliving(stream: TextIO, passed_over: Container[int]) -> TextIO:
    stream.flush()
    raw = io.BufferedWriter(_Deaf(stream.fileno(), passed_over))
    return io.TextIOWrapper(
        raw, encoding=stream.encoding, errors=stream.errors, line_buffering=stream.isatty()
    )


def ignore_broken_pipe() -> None:
    """Make this process's standard output and error outlive whoever reads them. Once, at its start."""
    if sys.stdout is not None:
        sys.stdout = _outliving(sys.stdout, _GONE)
    if sys.stderr is not None:
        sys.stderr = _outliving(sys.stderr, _GONE_OR_SHUT)
