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
from hvpsbridge.host.psrp.client import WSManClient
from hvpsbridge.host.psrp.errors import TRANSPORT_ERRORS, is_operation_timeout, transport_fault_text
from hvpsbridge.host.psrp.http import Body
from hvpsbridge.host.psrp.pipeline import Emitted, Pipeline
from hvpsbridge.host.psrp.raw_connection import UNAUTHORIZED, Answer, ConnectionUnavailable, RawConnection
from hvpsbridge.host.psrp.receive import ReceiveRequest, stream_fragments
from hvpsbridge.host.psrp.replies import (
    Assembler,
    BrokenStream,
    Message,
    UnknownReply,
    ends_command,
    read_reply,
)

logger = logging.getLogger(__name__)

BLOCK_TYPES = ["Hvps.BlockMessage"]
OK = 200


class BulkPipeline(Pipeline):
    """A reader pipeline whose replies take the fast way.

    Attributes:
        fallbacks: how often a pipeline of this process has had to go pypsrp's way; benchmarks look at it.
    """

    fallbacks = 0

    def __init__(
        self,
        client: WSManClient,
        replies: WSManClient,
        operation: str,
        text: str,
        parameters: Mapping[str, object],
        *,
        operation_timeout_seconds: int,
    ) -> None:
        """Start the script.

        Args:
            client: for everything that is sent.
            replies: a second connection to the same shell, for what is received: a Receive waits there
                while the next request goes out on the other.
            operation: name for errors.
            text: the whole script.
            parameters: bound values by name.
            operation_timeout_seconds: how long the host may hold a Receive.

        Raises:
            SessionLost: the connection or the shell is gone.
        """
        self._replies = replies
        self._operation_timeout = operation_timeout_seconds
        self._assembler = Assembler()
        self._raw: RawConnection | None = None
        self._asked = b""
        self._plain = False
        super().__init__(client, operation, text, parameters, input_open=True)
        self._request = ReceiveRequest(replies, self.command_id, operation_timeout_seconds)

    @property
    def received_bytes(self) -> int:
        """Reply bodies so far, whichever way they took."""
        return self.client.received_bytes + self._replies.received_bytes

    def poll(self, timeout_seconds: float) -> list[Emitted]:
        """Objects of the next reply (see :meth:`Pipeline.poll`); the next Receive is out by then."""
        try:
            if self._plain and not self._waiting:
                return super().poll(timeout_seconds)
            raw = self._raw
            body = self._first(timeout_seconds) if raw is None else self._next(raw, timeout_seconds)
            return [] if body is None else self._read(body)
        except BrokenStream as err:
            raise SessionLost(self.client.host, self._operation, str(err)) from err
        except TRANSPORT_ERRORS as err:
            raise self._failure(err) from err

    def close(self) -> None:
        """Stop the script if it still runs and give its command back. Never raises."""
        self._let_go()
        super().close()

    # -- one exchange --------------------------------------------------------------------------

    @property
    def _waiting(self) -> bool:
        return self._raw is not None and self._raw.waiting

    def _first(self, timeout_seconds: float) -> Body | None:
        """The first reply, through pypsrp, which leaves an open and authenticated connection behind."""
        wait = max(1, min(self._operation_timeout, int(timeout_seconds)))
        request = ReceiveRequest(self._replies, self.command_id, wait)
        self._asked, text = request.text()
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
        self._check_relation(body)
        return body

    def _next(self, raw: RawConnection, timeout_seconds: float) -> Body | None:
        """The reply to the Receive that is out, and a new Receive on its way."""
        if not raw.waiting:
            self._ask(raw)
        answer = raw.answer(timeout_seconds)
        if answer is None:
            return None
        self._replies.received_bytes += answer.body_bytes
        if answer.status == UNAUTHORIZED:
            self._raw = None
            self._replies.authenticate_again(raw)
            return None
        body = self._body(answer)
        if not answer.keeps_alive or self._replies.ends_soon:
            self._let_go()
        elif body is not None and not self._plain and not ends_command(body):
            try:
                self._ask(raw)
            except OSError:
                # Closed while nobody read from it; what we have is whole, and the rest comes over another.
                self._let_go()
        return body

    def _ask(self, raw: RawConnection) -> None:
        self._asked, text = self._request.text()
        raw.ask(text)

    def _body(self, answer: Answer) -> Body | None:
        """The SOAP of a reply; None when the host only had nothing to say."""
        if answer.status != OK:
            is_operation_timeout(bytes(answer.soap))
            return None
        self._check_relation(answer.soap)
        return answer.soap

    def _check_relation(self, body: Body) -> None:
        if self._asked not in body:
            raise BrokenStream("a reply to another request")

    def _let_go(self) -> None:
        if self._raw is not None:
            self._raw.close()
        self._raw = None

    # -- one reply -----------------------------------------------------------------------------

    def _read(self, body: Body) -> list[Emitted]:
        if self._plain:
            return self._by_pypsrp(stream_fragments(bytes(body)))
        try:
            streams = read_reply(body)
        except UnknownReply as err:
            self._fall_back(str(err))
            return self._by_pypsrp(stream_fragments(bytes(body)))
        arrived: list[Emitted] = []
        for fragments in streams:
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
            logger.warning("%s: the fast reader is not used: %s", self.client.host, why)
        BulkPipeline.fallbacks += 1
        self._plain = True
        if pending := self._assembler.pending:
            self.take_fragments(pending)
