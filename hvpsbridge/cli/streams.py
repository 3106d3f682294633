"""Standard streams that can always be written to.

A backup, and least of all an undo, must not stop because nobody reads what it prints: the terminal was closed
(EIO), the reader of a pipe has ended (EPIPE), or the output goes to a file on a full disk. So a write never
fails. :func:`lost_output` says afterwards whether results were lost. Nor does one wait for ever: a pager that
waits for a key, or a terminal stopped by Ctrl-S, would hold all workers with their checkpoints, and a signal
could not be reported. So text for standard error is lost once nobody has read for :data:`STUCK_SECONDS`.
Results wait for their reader, since nothing is at work when they are printed.

A process may also be started with its standard streams closed. The next files that it opens would then get
their numbers, and everything printed would be written into them. So these numbers are taken first.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import stat
import sys
from pathlib import Path
from typing import Any, TextIO

# The reader decided to end: ``hvps list | head``, or a closed terminal. Nothing that it wants is lost.
_READER_GONE = frozenset({errno.EPIPE, errno.ECONNRESET})

# How long a write to standard error waits for a reader that does not read.
STUCK_SECONDS = 10.0

# A pipe or socket that is ready takes as much without blocking; a terminal at least takes less at a time.
_PIPE_PIECE_BYTES = select.PIPE_BUF
_TERMINAL_PIECE_BYTES = 256


class _Unfailing(io.FileIO):
    """A file whose writes succeed for the caller, whatever happens.

    Attributes:
        failure: of the first write that failed though its reader is still there. Nothing is written after
            it, so that a document never has a gap.
    """

    def __init__(self, descriptor: int, *, patient: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None
        # Asked now, since a closed terminal does not count as one.
        self._terminal = self.isatty()
        self._gone = False
        self._patient = patient or stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._stuck = False
        self._lost_bytes = 0

    def write(self, data: Any, /) -> int:
        count = memoryview(data).nbytes
        if self.failure is not None or self._gone:
            return count
        try:
            if self._patient:
                written = super().write(data)
                while written is None:  # the descriptor does not block, since another process made it so
                    select.select([], [self.fileno()], [])
                    written = super().write(data)
            else:
                self._write_if_read(memoryview(data).cast("B"))
                written = count
        except OSError as err:
            if err.errno in _READER_GONE or (err.errno == errno.EIO and self._terminal):
                self._gone = True
            else:
                self.failure = err
            return count
        return written

    def _write_if_read(self, text: memoryview) -> None:
        """Write all of the text, or as much as is read in time."""
        if self._lost_bytes and self._ready():
            note = f"hvps: {self._lost_bytes} bytes of output are missing here, since nobody read them\n"
            self._lost_bytes = 0
            text = memoryview(f"\n{note}".encode("ascii") + text)
        size = _TERMINAL_PIECE_BYTES if self._terminal else _PIPE_PIECE_BYTES
        while text:
            if not self._ready():
                self._lost_bytes += text.nbytes
                return
            text = text[super().write(text[:size]) or 0 :]

    def _ready(self) -> bool:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        ready = bool(poll.poll(0 if self._stuck else STUCK_SECONDS * 1000))
        self._stuck = not ready
        return ready


def prepare_streams() -> None:
    """Make the standard streams usable, whatever they are. Call it once, before any file is opened."""
    _take_closed_descriptors()
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - for the whole process
    sys.stdout = _unfailing(sys.stdout, 1, patient=True)
    sys.stderr = _unfailing(sys.stderr, 2, patient=False)


def lost_output() -> OSError | None:
    """Flush standard output. Returns why some of it could not be written, or None."""
    raw = _raw(sys.stdout)
    with contextlib.suppress(ValueError):  # closed by somebody else
        sys.stdout.flush()
    return None if raw is None else raw.failure


def _raw(stream: Any) -> _Unfailing | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Unfailing) else None


def _take_closed_descriptors() -> None:
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _open_lowest()


def _open_lowest() -> None:
    """Open something harmless. It gets the lowest free descriptor."""
    try:
        descriptor = os.open(os.devnull, os.O_RDWR)
    except OSError:  # no /dev, as in a bare chroot
        descriptor = os.open("/", os.O_RDONLY)
    os.set_inheritable(descriptor, True)


def _unfailing(stream: TextIO | None, number: int, *, patient: bool) -> TextIO:
    """The stream of a descriptor; characters that its encoding lacks are written as escapes."""
    encoding = "utf-8"
    if stream is not None:
        stream.flush()
        encoding = stream.encoding
    raw = _Unfailing(number, patient=patient)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=number == 2 or raw.isatty(),
    )
