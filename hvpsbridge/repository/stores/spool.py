"""A sink for stores that take whole objects: a temporary file holds the bytes until they are sent."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator

from hvpsbridge.errors import NoSpace, StoreError, StoreLimit, is_full, limit_advice
from hvpsbridge.folders import temporary_folder_text
from hvpsbridge.repository.stores.base import Sink

# Objects in memory at a time while they are sent: two packs, 64 MiB.
_SENDING = threading.BoundedSemaphore(2)


class SpoolSink(Sink):
    """Collects an object in a temporary file on this machine, and sends it when it is published.

    Args:
        url: of the store, for errors.
        name: of the object.
        send: stores the bytes under the name, with retries.
    """

    def __init__(self, url: str, name: str, send: Callable[[str, bytes], None]) -> None:
        self._url = url
        self._name = name
        self._send = send
        with self._file_errors():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (lives with self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with self._file_errors():
            self._file.write(data)

    def publish(self) -> None:
        with _SENDING:
            with self._file_errors():
                self._file.seek(0)  # flushes the buffer to the disk, which may be full
                data = self._file.read()
            self._send(self._name, data)
        self.abandon()

    @contextlib.contextmanager
    def _file_errors(self) -> Iterator[None]:
        """Turn errors of the file into errors that name its folder, which is on this machine."""
        try:
            yield
        except OSError as err:
            kind = NoSpace if is_full(err) else StoreError
            reason = f"{err.strerror or err} (in {temporary_folder_text()})"
            if advice := limit_advice(err):
                raise StoreLimit(self._url, "spool", self._name, reason, advice) from err
            raise kind(self._url, "spool", self._name, reason) from err

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
