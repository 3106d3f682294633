"""A reader pipeline of one frozen disk: requests in, blocks out.

The input of the pipeline stays open, so each request reaches the script as soon as it is sent. The host ends
a pipeline that has received 50 MB of input over its life, whatever its output
(docs/hyperv-facts.md#inbound-limits), so a new pipeline replaces it long before. The host's handle of the
disk is static in the process and stays open.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from hvpsbridge import stopping
from hvpsbridge.contract import OPERATIONS
from hvpsbridge.errors import HostError, OperationTimedOut, ProtocolViolation, SessionLost
from hvpsbridge.formats.wire import block_bound, requested_block_bytes
from hvpsbridge.host.psrp.bulk import BulkPipeline
from hvpsbridge.host.psrp.session import Session
from hvpsbridge.units import MIB

logger = logging.getLogger(__name__)

READ_EXTENT = OPERATIONS["Read-HvpsExtent"]
# Half of WinRM's limit, counted as WinRM counts: fragments, with the base64 of the byte array.
INBOUND_LIMIT_BYTES = 25 * MIB
_BASE64_FACTOR = 4 / 3
# How long a pipeline may take to answer what it was asked and end.
RENEW_SECONDS = 300.0
# Of blocks that come meanwhile and are kept: twice what two of the largest windows hold.
RENEW_BYTES = 64 * MIB
# CLIXML and message headers around a request.
_MESSAGE_BYTES = 512


class PipelineSource:
    """One reader pipeline (a ``contract.stream.BlockSource``), for one thread at a time."""

    def __init__(self, session: Session, path: str, text: str | None) -> None:
        """Start the pipeline.

        Args:
            session: the shell whose process has, or will have, the disk's handle.
            path: the frozen disk.
            text: the rendered reader script; None where the endpoint has it as a command.

        Raises:
            SessionLost: the connection or the shell is gone.
        """
        self._session = session
        self._path = path
        self._text = text
        self._client = session.new_client()
        self._replies = session.new_client()
        # Received while a pipeline was replaced.
        self._blocks: list[bytes] = []
        self._block_count = 0
        self._sent_bytes = 0
        self._closed = False
        try:
            self._pipeline = self._start()
        except HostError:
            self._drop_clients()
            raise

    @property
    def wire_bytes(self) -> int:
        """Bytes of reply bodies so far, all layers of encoding included."""
        return self._pipeline.received_bytes

    def send(self, request: bytes) -> None:
        """Send one packed request to the pipeline (see ``BlockSource``)."""
        cost = int(len(request) * _BASE64_FACTOR) + _MESSAGE_BYTES
        with self._session.tracking_loss():
            if self._sent_bytes + cost > INBOUND_LIMIT_BYTES:
                self._renew()
            self._sent_bytes += cost
            self._pipeline.expect_blocks(block_bound(requested_block_bytes(request)))
            self._pipeline.send(request)

    def receive(self, timeout_seconds: float) -> Sequence[bytes]:
        """Blocks that have arrived, in order (see ``BlockSource``)."""
        if self._blocks:
            arrived, self._blocks = self._blocks, []
            return arrived
        # As Session.tracking_loss does, without its cost for each reply.
        try:
            arrived = self._pipeline.receive_blocks(timeout_seconds)
            if not arrived and not self._pipeline.running:
                raise self._end()
        except SessionLost:
            self._session.lost = True
            raise
        self._session.lost = False
        self._block_count += len(arrived)
        return arrived

    def close(self) -> None:
        """End the pipeline; the host's handle stays. Never raises."""
        if self._closed:
            return
        self._closed = True
        self._pipeline.close()
        self._drop_clients()

    def _drop_clients(self) -> None:
        self._session.drop_client(self._client)
        self._session.drop_client(self._replies)

    def _start(self) -> BulkPipeline:
        self._sent_bytes = 0
        parameters = {"Path": self._path, "FirstBlock": self._block_count}
        with self._session.tracking_loss():
            return BulkPipeline(
                self._client,
                self._replies,
                READ_EXTENT.name,
                self._text,
                parameters,
                operation_timeout_seconds=self._session.operation_timeout_seconds,
            )

    def _renew(self) -> None:
        """Replace the pipeline once it has answered everything it was asked."""
        logger.debug("%s: starting a new reader pipeline of %s", self._session.host, self._path)
        self._pipeline.end_input()
        until = time.monotonic() + RENEW_SECONDS
        while self._pipeline.running:
            stopping.check()
            if time.monotonic() > until:
                raise OperationTimedOut(self._session.host, READ_EXTENT.name, RENEW_SECONDS)
            blocks = self._pipeline.receive_blocks(self._session.operation_timeout_seconds)
            self._blocks += blocks
            self._block_count += len(blocks)
            if sum(map(len, self._blocks)) > RENEW_BYTES:
                raise ProtocolViolation(
                    self._session.host, READ_EXTENT.name, "more blocks than were requested"
                )
        if problem := self._pipeline.error():
            raise problem
        self._pipeline.close()
        self._pipeline = self._start()

    def _end(self) -> HostError:
        """The error of a pipeline that ended although it should wait for requests."""
        return self._pipeline.error() or SessionLost(
            self._session.host, READ_EXTENT.name, "the reader pipeline ended"
        )
