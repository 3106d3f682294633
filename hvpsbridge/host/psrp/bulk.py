"""The fast way for a reader pipeline's replies, beside pypsrp's.

pypsrp builds and parses an XML document per reply, decodes base64 with the standard library and copies
what is left of a reply for every fragment in it; that bounds a session far below what the host gives
(docs/performance.md). Here the Receive is built once, sent on the same authenticated connection, and the
next one is on its way before the last reply is decoded. pypsrp keeps everything else: the shell, the
command, requests in, authentication, sealing, and every reply that is not laid out as expected.

The first Receive goes through pypsrp, which opens and authenticates the connection. When that connection
cannot be had or pypsrp has changed, all replies go pypsrp's way and the log says so once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from hvpsbridge.errors import SessionLost
from hvpsbridge.host.psrp.borrowed import Borrowed, ConnectionUnavailable, ReceiveRequest, stream_fragments
from hvpsbridge.host.psrp.door import Door
from hvpsbridge.host.psrp.http import HalfExchange, HttpReply
from hvpsbridge.host.psrp.pipeline import Emitted, Pipeline
from hvpsbridge.host.psrp.replies import (
    Assembler,
    BrokenStream,
    Message,
    UnknownReply,
    ends_command,
    read_reply,
)
from hvpsbridge.host.psrp.trouble import TRANSPORT_ERRORS, is_operation_timeout, transport_fault_text

log = logging.getLogger(__name__)

BLOCK_TYPES = ["Hvps.BlockMessage"]


class BulkPipeline(Pipeline):
    """A reader pipeline whose replies take the fast way.

    Attributes:
        fallbacks: how often a pipeline of this process has had to go pypsrp's way; benchmarks look at it.
    """

    fallbacks = 0

    def __init__(
        self,
        door: Door,
        replies: Door,
        operation: str,
        text: str,
        parameters: Mapping[str, object],
        *,
        operation_timeout_seconds: int,
        read_timeout_seconds: int,
    ) -> None:
        """Start the script.

        Args:
            door: for everything that is sent.
            replies: a second connection to the same shell, for what is received: a Receive waits there
                while the next request goes out on the other.
            operation: name for errors.
            text: the whole script.
            parameters: bound values by name.
            operation_timeout_seconds: how long the host may hold a Receive.
            read_timeout_seconds: how long no answer at all is waited for.

        Raises:
            SessionLost: the connection or the shell is gone.
        """
        self._replies = replies
        self._operation_timeout = operation_timeout_seconds
        self._read_timeout = read_timeout_seconds
        self._assembler = Assembler()
        self._borrowed: Borrowed | None = None
        self._exchange: HalfExchange | None = None
        self._asked = b""
        self._plain = False
        super().__init__(door, operation, text, parameters, input_open=True)
        self._request = ReceiveRequest(replies, self.command_id, operation_timeout_seconds)

    @property
    def received_bytes(self) -> int:
        """Reply bodies so far, whichever way they took."""
        return self.door.received_bytes + self._replies.received_bytes

    def poll(self, timeout_seconds: float) -> list[Emitted]:
        """Objects of the next reply (see :meth:`Pipeline.poll`); the next Receive is out by then."""
        try:
            if self._plain and not self._waiting:
                return super().poll(timeout_seconds)
            body = self._first(timeout_seconds) if self._exchange is None else self._next(timeout_seconds)
            return [] if body is None else self._read(body)
        except BrokenStream as err:
            raise SessionLost(self.door.host, self._operation, str(err)) from err
        except TRANSPORT_ERRORS as err:
            raise self._failure(err) from err

    def close(self) -> None:
        """Stop the script if it still runs and give its command back. Never raises."""
        self._let_go()
        super().close()

    # -- one exchange --------------------------------------------------------------------------

    @property
    def _waiting(self) -> bool:
        return self._exchange is not None and self._exchange.waiting

    def _first(self, timeout_seconds: float) -> bytes | bytearray | None:
        """The first reply, through pypsrp, which leaves an open and authenticated connection behind."""
        wait = max(1, min(self._operation_timeout, int(timeout_seconds)))
        request = ReceiveRequest(self._replies, self.command_id, wait)
        self._asked, text = request.text()
        self._replies.start_over()
        try:
            body: bytes = self._replies.wsman.transport.send(text)
        except TRANSPORT_ERRORS as err:
            fault = transport_fault_text(err)
            if fault is None or not is_operation_timeout(fault):
                raise
            return None
        try:
            self._borrowed = Borrowed(self._replies)
            self._exchange = HalfExchange(self._borrowed.socket, self._read_timeout)
        except ConnectionUnavailable as err:
            self._fall_back(str(err))
        self._check_relation(body)
        return body

    def _next(self, timeout_seconds: float) -> bytes | bytearray | None:
        """The reply to the Receive that is out, and a new Receive on its way."""
        assert self._exchange is not None
        if not self._exchange.waiting:
            self._ask()
        reply = self._exchange.receive(timeout_seconds)
        if reply is None:
            return None
        body = self._open(reply)
        if body is not None:
            self._check_relation(body)
        if not reply.keeps_alive or self._replies.ends_soon:
            self._let_go()
        elif body is not None and not self._plain and not ends_command(body):
            try:
                self._ask()
            except OSError:
                # Closed while nobody read from it; what we have is whole, and the rest comes over another.
                self._let_go()
        return body

    def _ask(self) -> None:
        assert self._exchange is not None
        assert self._borrowed is not None
        self._asked, text = self._request.text()
        self._exchange.send(*self._borrowed.sealed(text))

    def _open(self, reply: HttpReply) -> bytes | bytearray | None:
        """The SOAP of a reply; None when the host only had nothing to say."""
        assert self._borrowed is not None
        self._replies.received_bytes += len(reply.body)
        if reply.status == 401:
            # Not executed, so nothing is lost; pypsrp knows how to authenticate again.
            self._let_go()
            return None
        body = self._borrowed.opened(reply.headers.get(b"content-type", b""), reply.body)
        if reply.status == 200:
            return body
        is_operation_timeout(body)
        return None

    def _check_relation(self, body: bytes | bytearray) -> None:
        if body.find(self._asked) < 0:
            raise BrokenStream("a reply to another request")

    def _let_go(self) -> None:
        if self._borrowed is not None:
            self._borrowed.close()
        self._borrowed = self._exchange = None

    # -- one reply -----------------------------------------------------------------------------

    def _read(self, body: bytes | bytearray) -> list[Emitted]:
        if self._plain:
            return self._by_pypsrp(stream_fragments(body))
        try:
            reply = read_reply(body)
        except UnknownReply as err:
            self._fall_back(str(err))
            return self._by_pypsrp(stream_fragments(body))
        arrived: list[Emitted] = []
        for fragments in reply.fragments:
            for item in self._assembler.feed(fragments):
                if isinstance(item, Message):
                    arrived += self._by_pypsrp(item.fragments)
                else:
                    arrived.append(Emitted(BLOCK_TYPES, {"Block": item}))
        return arrived

    def _by_pypsrp(self, fragments: bytes) -> list[Emitted]:
        self.take_fragments(fragments)
        return self.take_output()

    def _fall_back(self, why: str) -> None:
        """From here on replies go pypsrp's way, starting with the message that is under way."""
        if BulkPipeline.fallbacks == 0:
            log.warning("%s: the fast reader is not used: %s", self.door.host, why)
        BulkPipeline.fallbacks += 1
        self._plain = True
        if pending := self._assembler.pending:
            self.take_fragments(pending)
