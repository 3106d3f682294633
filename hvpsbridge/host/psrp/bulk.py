"""Receives the replies of a reader pipeline faster than pypsrp does.

pypsrp builds and parses an XML document per reply, decodes base64 with the standard library and copies the
rest of a reply for every fragment in it. That limits a session far below the rate of the host
(docs/performance.md). Here the Receive is built once and sent on the same authenticated connection, and the
next one is sent before the last reply is decoded. pypsrp still does everything else: the shell, the command,
requests, authentication, message encryption, and replies with an unexpected layout.

The first Receive goes through pypsrp, which opens and authenticates the connection. If that connection cannot
be taken, or a reply has an unexpected layout, pypsrp receives all further replies, and one warning is logged.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Mapping
from xml.etree import ElementTree

from pypsrp.wsman import NAMESPACES

from hvpsbridge.errors import HostError, ProtocolViolation, SessionLost
from hvpsbridge.host.psrp.client import WSManClient
from hvpsbridge.host.psrp.errors import TRANSPORT_ERRORS, is_operation_timeout, transport_fault_text
from hvpsbridge.host.psrp.http import Body
from hvpsbridge.host.psrp.pipeline import Emitted, Pipeline
from hvpsbridge.host.psrp.prepared import ReceiveRequest
from hvpsbridge.host.psrp.raw_connection import ConnectionUnavailable, RawConnection
from hvpsbridge.host.psrp.replies import (
    Assembler,
    BrokenStream,
    Message,
    MessageTooLong,
    UnknownReply,
    block_message_bound,
    check_relation,
    ends_command,
)
from hvpsbridge.host.psrp.safe_xml import check_xml
from hvpsbridge.host.psrp.transport import OK, UNAUTHORIZED

logger = logging.getLogger(__name__)

BLOCK_PROPERTY = "Block"
# How often to look whether the security context ends soon; it is replaced a minute before it ends.
CONTEXT_CHECK_SECONDS = 1.0


class BulkPipeline(Pipeline):
    """A reader pipeline whose replies do not go through pypsrp.

    Attributes:
        fallbacks: how many pipelines of this process had to leave replies to pypsrp; for benchmarks.
    """

    fallbacks = 0

    def __init__(
        self,
        client: WSManClient,
        replies: WSManClient,
        operation: str,
        text: str | None,
        parameters: Mapping[str, object],
        *,
        operation_timeout_seconds: int,
    ) -> None:
        """Start the script.

        Args:
            client: sends everything.
            replies: a second connection to the same shell, which receives: a Receive waits there while the
                next request is sent on the other.
            operation: name for errors.
            text: the whole script; None to call the command ``operation``.
            parameters: bound values by name.
            operation_timeout_seconds: how long the host may hold a Receive.

        Raises:
            SessionLost: the connection or the shell is gone.
        """
        self._replies = replies
        self._operation_timeout = operation_timeout_seconds
        self._assembler = Assembler()
        self._raw: RawConnection | None = None
        self._context_checked = 0.0
        self._receive_sent = False
        self._message_id = b""
        self._fallen_back = False
        super().__init__(client, operation, text, parameters, input_open=True)
        self._request = ReceiveRequest(replies, self.command_id, operation_timeout_seconds)

    @property
    def received_bytes(self) -> int:
        """Bytes of reply bodies so far, those that pypsrp received included."""
        return self.client.received_bytes + self._replies.received_bytes

    def expect_blocks(self, block_bytes: int) -> None:
        """Take no message longer than one with a block of that many bytes."""
        self._assembler.max_message_bytes = block_message_bound(block_bytes)

    def receive_blocks(self, timeout_seconds: float) -> list[bytes]:
        """Blocks of the next reply, in order; none if the host sent none within the time.

        Raises:
            SessionLost: the connection or the shell is gone, or replies were lost.
            ProtocolViolation: the script emitted something else, or the reply cannot be read.
        """
        try:
            if self._fallen_back and not self._receive_sent:
                return [self._block_of(item) for item in self.poll(timeout_seconds)]
            if self._raw is None:
                body = self._first_reply(timeout_seconds)
            else:
                body = self._next_reply(self._raw, timeout_seconds)
            return [] if body is None else self._blocks_in(body)
        except MessageTooLong as err:
            raise ProtocolViolation(self.client.host, self._operation, str(err)) from err
        except BrokenStream as err:
            raise SessionLost(self.client.host, self._operation, str(err)) from err
        except HostError:
            raise
        except Exception as err:
            raise self._failure(err) from err

    def close(self) -> None:
        """Stop the script if it still runs and release its command. Never raises."""
        self._drop_connection()
        super().close()

    # -- one exchange --------------------------------------------------------------------------

    def _first_reply(self, timeout_seconds: float) -> Body | None:
        """The first reply, received by pypsrp, which leaves an open and authenticated connection behind."""
        wait = max(1, min(self._operation_timeout, int(timeout_seconds)))
        request = ReceiveRequest(self._replies, self.command_id, wait)
        self._message_id, text = request.text()
        self._replies.start_over()
        try:
            body = Body(self._replies.wsman.transport.send(text))
        except TRANSPORT_ERRORS as err:
            fault = transport_fault_text(err)
            if fault is None or not is_operation_timeout(fault):
                raise
            return None
        try:
            self._raw = self._replies.take_raw()
        except ConnectionUnavailable as err:
            self._fall_back(str(err))
        check_relation(body, self._message_id)
        return body

    def _next_reply(self, raw: RawConnection, timeout_seconds: float) -> Body | None:
        """The reply to the last Receive; the next Receive was sent when this returns."""
        if not self._receive_sent:
            self._send_receive(raw)
        reply = raw.receive(timeout_seconds)
        if reply is None:
            return None
        self._receive_sent = False
        self._replies.received_bytes += reply.body_bytes
        if reply.status == UNAUTHORIZED:
            self._raw = None
            self._replies.authenticate_again(raw)
            return None
        done = False
        if reply.status == OK:
            done = ends_command(reply.body, self._message_id)
        else:
            # Raises unless the host only had nothing to send.
            is_operation_timeout(bytes(reply.body))
        if not reply.keeps_alive or self._context_ends():
            self._drop_connection()
        elif reply.status == OK and not done and not self._fallen_back:
            try:
                self._send_receive(raw)
            except OSError:
                # The host closed the connection; this reply is whole, and the next comes over another one.
                self._drop_connection()
        return reply.body if reply.status == OK else None

    def _context_ends(self) -> bool:
        """Whether to replace the security context; looked up now and then, not for each reply."""
        now = time.monotonic()
        if now - self._context_checked < CONTEXT_CHECK_SECONDS:
            return False
        self._context_checked = now
        return self._replies.ends_soon

    def _send_receive(self, raw: RawConnection) -> None:
        self._message_id, text = self._request.text()
        raw.send(text)
        self._receive_sent = True

    def _drop_connection(self) -> None:
        if self._raw is not None:
            self._raw.close()
        self._raw, self._receive_sent = None, False

    # -- one reply -----------------------------------------------------------------------------

    def _blocks_in(self, body: Body) -> list[bytes]:
        if self._fallen_back:
            return self._by_pypsrp(stream_fragments(bytes(body)))
        try:
            items = self._assembler.read(body)
        except UnknownReply as err:
            self._fall_back(str(err))
            return self._by_pypsrp(stream_fragments(bytes(body)))
        blocks: list[bytes] = []
        for item in items:
            if isinstance(item, Message):
                blocks += self._by_pypsrp(item.fragments)
            else:
                blocks.append(item)
        return blocks

    def _by_pypsrp(self, fragments: bytes) -> list[bytes]:
        self.take_fragments(fragments)
        return [self._block_of(item) for item in self.take_output()]

    def _block_of(self, item: Emitted) -> bytes:
        block = item.properties.get(BLOCK_PROPERTY)
        if not isinstance(block, bytes):
            raise ProtocolViolation(
                self.client.host, self._operation, f"a {item.type_names[0]} without a block"
            )
        return block

    def _fall_back(self, reason: str) -> None:
        """Leave all further replies to pypsrp, beginning with the incomplete message."""
        if BulkPipeline.fallbacks == 0:
            logger.warning("%s: the fast reader is not used: %s", self.client.host, reason)
        BulkPipeline.fallbacks += 1
        self._fallen_back = True
        if pending := self._assembler.pending:
            self.take_fragments(pending)


def stream_fragments(body: bytes) -> bytes:
    """Decoded stream contents of a reply of any layout, as pypsrp itself extracts them."""
    check_xml(body)
    reply = ElementTree.fromstring(body)  # noqa: S314 - pypsrp reads all other replies with it too
    path = "s:Body/rsp:ReceiveResponse/rsp:Stream"
    return b"".join(base64.b64decode(found.text) for found in reply.findall(path, NAMESPACES) if found.text)
