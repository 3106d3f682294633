"""A sink for stores that take whole objects: bytes wait in a file without a name until they are sent."""

from __future__ import annotations

import contextlib
import errno
import tempfile
import threading
from collections.abc import Callable, Iterator

from hvpsbridge.errors import NoSpace, StoreError
from hvpsbridge.repository.stores.base import Sink

# Objects in memory at a time while they are sent: two packs, 64 MiB.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SENDING = threading.BoundedSemaphore(2)


class SpoolSink(Sink):
    """Gathers an object on the local disk; publishing hands it over whole, as often as it takes.

    Args:
        url, name: for errors.
        send: stores the bytes under the name, or raises.
    """

    def __init__(self, url: str, name: str, send: Callable[[str, bytes], None]) -> None:
        self._url = url
        self._name = name
        self._send = send
        with self._telling():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (lives with self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with self._telling():
            self._file.write(data)

    def publish(self) -> None:
        with _SENDING:
            with self._telling():
                self._file.seek(0)  # brings what is buffered to the disk, which may be full
                data = self._file.read()
            self._send(self._name, data)
        self.abandon()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Say where the spool is when it fails: not in the store, but on this machine."""
        try:
            yield
        except OSError as err:
            kind = NoSpace if err.errno in _FULL else StoreError
            reason = f"{err.strerror or err} (in {tempfile.gettempdir()})"
            raise kind(self._url, "gather", self._name, reason) from err

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
