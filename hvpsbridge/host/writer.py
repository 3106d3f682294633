"""A pipeline that writes a new file or a disk on a host: requests in, and what was written out.

Requests are answered in order. The host ends a pipeline that has received 50 MB of input over its life
(docs/hyperv-facts.md#inbound-limits), so a new pipeline replaces it long before. The host's handle of the
file is static in the process and stays open.
"""

from __future__ import annotations

import time
from collections import deque

from hvpsbridge import stopping
from hvpsbridge.contract import OPERATIONS, Operation
from hvpsbridge.contract.restoring import WrittenPart
from hvpsbridge.errors import HostError, OperationTimedOut, ProtocolViolation, SessionLost
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.file_write import pack_write
from hvpsbridge.host.binding import BindingError, bind_result
from hvpsbridge.host.psrp.pipeline import Emitted, Pipeline
from hvpsbridge.host.psrp.session import Session
from hvpsbridge.units import MIB

WRITE_FILE = OPERATIONS["Write-HvpsFile"]
WRITE_DISK = OPERATIONS["Write-HvpsDisk"]
# Half of WinRM's limit, counted as WinRM counts: fragments, with the base64 of the byte array.
INBOUND_LIMIT_BYTES = 25 * MIB
_BASE64_FACTOR = 4 / 3
# CLIXML and message headers around a request.
_MESSAGE_BYTES = 512
# How long the host may take to write what is under way.
ANSWER_SECONDS = 300.0
# Sent and not yet answered.
IN_FLIGHT_BYTES = 6 * MIB


class FileWriter:
    """Writes one file or disk, for one thread at a time.

    Attributes:
        written: extents that the host has written, in order, until :meth:`take_written`.
    """

    def __init__(
        self, session: Session, path: str, text: str | None, operation: Operation = WRITE_FILE
    ) -> None:
        """Start the pipeline.

        Args:
            session: the shell whose process has, or will have, the handle of the file.
            path: a file that ``New-HvpsFile`` made, or a disk.
            text: the rendered script; None where the endpoint has it as a command.
            operation: the one of that script.

        Raises:
            SessionLost: the connection or the shell is gone.
        """
        self._session = session
        self._path = path
        self._text = text
        self._operation = operation
        self._client = session.new_client()
        self._sent_bytes = 0
        self._pending: deque[Extent] = deque()
        self._written: list[Extent] = []
        try:
            self._pipeline = self._start()
        except HostError:
            session.drop_client(self._client)
            raise

    def write(self, offset: int, data: bytes) -> None:
        """Send bytes of the file; returns when little enough is under way.

        Raises:
            SessionLost: the connection or the shell is gone; what is not in ``take_written`` may be missing.
            OperationFailed: the host cannot write.
        """
        request = pack_write(offset, data)
        cost = int(len(request) * _BASE64_FACTOR) + _MESSAGE_BYTES
        with self._session.tracking_loss():
            if self._sent_bytes + cost > INBOUND_LIMIT_BYTES:
                self._renew()
            self._sent_bytes += cost
            self._pending.append(Extent(offset, len(data)))
            self._pipeline.send(request)
            self._wait(IN_FLIGHT_BYTES)

    def flush(self) -> None:
        """Wait until everything is written.

        Raises:
            HostError: as :meth:`write`.
        """
        with self._session.tracking_loss():
            self._wait(0)

    def take_written(self) -> list[Extent]:
        """What the host has written since the last call, in order."""
        written, self._written = self._written, []
        return written

    def close(self) -> None:
        """End the pipeline; the host's handle stays. Never raises."""
        self._pipeline.close()
        self._session.drop_client(self._client)

    def _start(self) -> Pipeline:
        self._sent_bytes = 0
        with self._session.tracking_loss():
            return Pipeline(
                self._client, self._operation.name, self._text, {"Path": self._path}, input_open=True
            )

    def _renew(self) -> None:
        self._wait(0)
        self._pipeline.end_input()
        until = time.monotonic() + ANSWER_SECONDS
        while self._pipeline.running:
            self._poll(until)
        if problem := self._pipeline.error():
            raise problem
        self._pipeline.close()
        self._pipeline = self._start()

    def _wait(self, most_bytes: int) -> None:
        """Wait until no more than this is under way."""
        until = time.monotonic() + ANSWER_SECONDS
        while sum(extent.length for extent in self._pending) > most_bytes:
            if not self._pipeline.running:
                raise self._pipeline.error() or SessionLost(
                    self._session.host, self._operation.name, "the pipeline ended"
                )
            self._poll(until)

    def _poll(self, until: float) -> None:
        """Take what has arrived; an error if it is later than ``until``, by ``time.monotonic``."""
        stopping.check()
        if time.monotonic() > until:
            raise OperationTimedOut(self._session.host, self._operation.name, ANSWER_SECONDS)
        self._take(self._pipeline.poll(self._session.operation_timeout_seconds))

    def _take(self, arrived: list[Emitted]) -> None:
        for item in arrived:
            try:
                part = bind_result(WrittenPart, item.type_names, item.properties)
            except BindingError as err:
                raise ProtocolViolation(self._session.host, self._operation.name, str(err)) from err
            expected = self._pending.popleft() if self._pending else None
            if expected != Extent(part.offset_bytes, part.length_bytes):
                raise ProtocolViolation(
                    self._session.host, self._operation.name, f"wrote {part} instead of {expected}"
                )
            self._written.append(expected)
