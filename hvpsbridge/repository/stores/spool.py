"""A sink for stores that take whole objects: bytes wait in a file without a name until they are sent."""

from __future__ import annotations

import contextlib
import errno
import tempfile
import threading
from collections.abc import Callable

from hvpsbridge.errors import NoSpace, StoreError
from hvpsbridge.repository.stores.base import SinkScope

# Objects in memory at a time while they are sent: two packs, 64 MiB.
_SENDING = threading.BoundedSemaphore(2)


class SpoolSink(SinkScope):
    """Gathers an object on the local disk; publishing hands it over whole, as often as it takes.

    Args:
        url, name: for errors.
        send: stores the bytes under the name, or raises.
    """

    def __init__(self, url: str, name: str, send: Callable[[str, bytes], None]) -> None:
        self._url = url
        self._name = name
        self._send = send
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (lives with self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See :class:`~hvpsbridge.repository.stores.base.Sink`."""
        try:
            self._file.write(data)
        except OSError as err:
            kind = NoSpace if err.errno == errno.ENOSPC else StoreError
            reason = f"{err.strerror} (in {tempfile.gettempdir()})"
            raise kind(self._url, "gather", self._name, reason) from err

    def publish(self) -> None:
        """See :class:`~hvpsbridge.repository.stores.base.Sink`."""
        self._file.seek(0)
        with _SENDING:
            self._send(self._name, self._file.read())
        self._file.close()

    def abandon(self) -> None:
        """See :class:`~hvpsbridge.repository.stores.base.Sink`."""
        with contextlib.suppress(OSError):
            self._file.close()
