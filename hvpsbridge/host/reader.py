"""A reader pipeline of one frozen disk: requests in, blocks out.

The pipeline's input stays open, so that each request reaches the script the moment it is sent. The endpoint
stops a pipeline once 50 MB came *in* over its life, whatever went out
(docs/hyperv-facts.md#inbound-limits), so a new pipeline replaces it long before; the host's handle is static
in the process and stays open.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.errors import HostError, ProtocolViolation, SessionLost
from hvpsbridge.host.psrp.bulk import BulkPipeline
from hvpsbridge.host.psrp.pipeline import Emitted
from hvpsbridge.host.psrp.session import Session
from hvpsbridge.units import MIB

logger = logging.getLogger(__name__)

READ_EXTENT = OPERATIONS["Read-HvpsExtent"]
BLOCK_PROPERTY = "Block"
# Half of WinRM's limit, counted as it counts: fragments, base64 of the byte array included.
INBOUND_LIMIT_BYTES = 25 * MIB
_BASE64_FACTOR = 4 / 3
# CLIXML and message headers around a request.
_MESSAGE_BYTES = 512

Block = bytes | bytearray | memoryview


class PipelineSource:
    """One reader pipeline (a ``contract.stream.BlockSource``), used from one thread at a time."""

    def __init__(self, session: Session, path: str, text: str) -> None:
        """Start the pipeline.

        Args:
            session: the shell whose process holds, or will hold, the disk's handle.
            path: the frozen disk.
            text: the rendered reader script.

        Raises:
            SessionLost: the connection or the shell is gone.
        """
        self._session = session
        self._path = path
        self._text = text
        self._client = session.new_client()
        self._replies = session.new_client()
        self._blocks: deque[Block] = deque()
        self._blocks_seen = 0
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
        """Hand one packed request to the pipeline (see ``BlockSource``)."""
        cost = int(len(request) * _BASE64_FACTOR) + _MESSAGE_BYTES
        with self._session.noticing():
            if self._sent_bytes + cost > INBOUND_LIMIT_BYTES:
                self._renew()
            self._sent_bytes += cost
            self._pipeline.send(request)

    def receive(self, timeout_seconds: float) -> Sequence[Block]:
        """Blocks that have arrived, oldest first (see ``BlockSource``)."""
        if not self._blocks:
            with self._session.noticing():
                self._take(self._pipeline.poll(timeout_seconds))
                if not self._blocks and not self._pipeline.running:
                    raise self._end()
        arrived = list(self._blocks)
        self._blocks.clear()
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

    def _take(self, arrived: Sequence[Emitted]) -> None:
        for item in arrived:
            block = item.properties.get(BLOCK_PROPERTY)
            if not isinstance(block, bytes):
                raise ProtocolViolation(
                    self._session.host, READ_EXTENT.name, f"a {item.type_names[0]} that carries no block"
                )
            self._blocks.append(block)
            self._blocks_seen += 1

    def _start(self) -> BulkPipeline:
        self._sent_bytes = 0
        parameters = {"Path": self._path, "FirstBlock": self._blocks_seen}
        with self._session.noticing():
            return BulkPipeline(
                self._client,
                self._replies,
                READ_EXTENT.name,
                self._text,
                parameters,
                operation_timeout_seconds=self._session.operation_timeout_seconds,
            )

    def _renew(self) -> None:
        """Replace the pipeline by a fresh one, once everything asked of it has come."""
        logger.debug("reader of a disk on %s: a new pipeline", self._session.host)
        self._pipeline.end_input()
        while self._pipeline.running:
            self._take(self._pipeline.poll(self._session.operation_timeout_seconds))
        if problem := self._pipeline.error():
            raise problem
        self._pipeline.close()
        self._pipeline = self._start()

    def _end(self) -> HostError:
        """Why a pipeline that should be waiting for requests has ended."""
        return self._pipeline.error() or SessionLost(
            self._session.host, READ_EXTENT.name, "the reader pipeline ended"
        )
