"""Finds blocks in Receive replies without parsing the XML. No I/O, no pypsrp.

Anything that is not exactly what a reader pipeline sends is returned whole, as the fragments it came in, so
that pypsrp's parser can read it and nothing is lost.

A reply is SOAP around base64 of PSRP fragments. A fragment is a 21-byte header and a slice of a message. A
message is a 40-byte header and CLIXML. The CLIXML of a block is an object with one byte array, again in
base64. So a block costs two SIMD decodes and one join.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pybase64

from hvpsbridge.host.psrp.http import Body
from hvpsbridge.units import MIB

_STREAM = b"<rsp:Stream "
_STREAM_END = b"</rsp:Stream>"
_STDOUT = b'Name="stdout"'
_DONE = b"CommandState/Done"
_BODY_START = b":Body"

# MS-PSRP 2.2.4: object id, fragment id, flags (1 start, 2 end), length; big endian.
FRAGMENT = struct.Struct(">QQBI")
START, END = 1, 2
# The largest messages are a megabyte of a file in base64, and the definition of a VM.
MAX_MESSAGE_BYTES = 8 * MIB
# MS-PSRP 2.2.1: destination, type, runspace pool id, pipeline id; little endian.
_MESSAGE_TYPE = struct.Struct("<I")
_MESSAGE_TYPE_AT = 4
_MESSAGE_HEADER_BYTES = 40
_PIPELINE_OUTPUT = struct.pack("<I", 0x00041004)

BLOCK_TYPE = "Hvps.BlockMessage"
_TYPE_NAME = f"<T>{BLOCK_TYPE}</T>".encode()
_BLOCK_START = b'<MS><BA N="Block">'
_BLOCK_END = b"</BA></MS></Obj>"
# Enough for the type names before the array.
_HEAD_BYTES = 1024


class UnknownReply(ValueError):
    """A reply with another layout than that of Windows; another parser must read it."""


class BrokenStream(ValueError):
    """Replies or fragments do not follow each other: some were lost, duplicated or reordered."""


class MessageTooLong(BrokenStream):
    """A message is longer than anything that was asked for."""


def block_message_bound(block_bytes: int) -> int:
    """The longest message with a block of that many bytes, with the headers of its fragments.

    base64 adds a third; CLIXML and headers of fragments add less than another sixth and 64 KiB.
    """
    return block_bytes * 3 // 2 + 64 * 1024


def read_reply(body: Body) -> list[bytes]:
    """The decoded stream contents of a ReceiveResponse, in order.

    Raises:
        UnknownReply: its layout is another one.
    """
    buffer, end = body.buffer, body.end
    view = memoryview(buffer)
    tail = buffer.find(_BODY_START, body.start, end)
    if tail < 0:
        raise UnknownReply("no SOAP body found")
    contents: list[bytes] = []
    while (position := buffer.find(_STREAM, tail, end)) >= 0:
        opened = buffer.find(b">", position, end)
        closed = buffer.find(b"<", opened, end)
        if opened < 0 or closed < 0:
            raise UnknownReply("a stream does not end")
        if buffer.find(_STDOUT, position, opened) < 0:
            raise UnknownReply("a stream other than stdout")
        if buffer.endswith(b"/", position, opened):
            tail = opened
            continue
        if not buffer.startswith(_STREAM_END, closed, end):
            raise UnknownReply("a stream has other content than text")
        try:
            contents.append(pybase64.b64decode(view[opened + 1 : closed], validate=True))
        except ValueError as err:
            raise UnknownReply("a stream is not base64") from err
        tail = closed
    return contents


def check_relation(body: Body, message_id: bytes) -> None:
    """Return if a reply relates to the request of that message id.

    Raises:
        BrokenStream: it relates to another request.
    """
    if body.buffer.find(message_id, body.start, body.end) < 0:
        raise BrokenStream("the reply belongs to another request")


def ends_command(body: Body, message_id: bytes) -> bool:
    """Whether a reply says that the command is done; cheap enough to call before the reply is decoded.

    Args:
        body: the reply.
        message_id: of the request it must relate to.

    Raises:
        BrokenStream: it relates to another request.
    """
    check_relation(body, message_id)
    buffer, start, end = body.buffer, body.start, body.end
    # The state follows the last stream, so the base64 before it need not be searched.
    last = buffer.rfind(_STREAM_END, start, end)
    return buffer.find(_DONE, max(last, start), end) >= 0


@dataclass(slots=True)
class Assembler:
    """Joins fragments to messages and takes the blocks out of them.

    Attributes:
        max_message_bytes: a longer message, with the headers of its fragments, is an error.
        _object: id of the incomplete message.
        _following: number of the fragment that must come next.
        _bytes: of its fragments so far.
        _pieces: slices of the message so far.
        _whole: its fragments so far, with their headers, for another parser.
    """

    max_message_bytes: int = MAX_MESSAGE_BYTES
    _object: int = 0
    _following: int = 0
    _bytes: int = 0
    _pieces: list[memoryview] = field(default_factory=list)
    _whole: list[memoryview] = field(default_factory=list)

    @property
    def pending(self) -> bytes:
        """Fragments of the incomplete message, for another parser to start with."""
        return b"".join(self._whole)

    def read(self, body: Body) -> list[bytes | Message]:
        """Blocks and other messages that end in a reply, in order.

        Raises:
            UnknownReply: its layout is another one; nothing of it was taken.
            BrokenStream: a fragment does not follow the one before it.
        """
        return [item for stream in read_reply(body) for item in self.feed(stream)]

    def feed(self, fragments: bytes) -> list[bytes | Message]:
        """Blocks and other messages that end in these fragments, in order.

        Raises:
            BrokenStream: a fragment does not follow the one before it, or (MessageTooLong) none ends.
        """
        found: list[bytes | Message] = []
        view = memoryview(fragments)
        size = len(view)
        start = 0
        while start < size:
            content = start + FRAGMENT.size
            if content > size:
                raise BrokenStream("a fragment is shorter than its header")
            number, index, flags, length = FRAGMENT.unpack_from(view, start)
            end = content + length
            if end > size:
                raise BrokenStream("a fragment is longer than its stream")
            if flags & START:
                if self._pieces or index:
                    raise BrokenStream(f"message {number} starts before message {self._object} ends")
                self._object, self._bytes = number, 0
            elif not self._pieces or number != self._object or index != self._following:
                raise BrokenStream(f"fragment {index} of message {number} does not follow")
            self._bytes += end - start
            if self._bytes > self.max_message_bytes:
                raise MessageTooLong(f"a message is longer than {self.max_message_bytes} bytes")
            self._following = index + 1
            self._pieces.append(view[content:end])
            self._whole.append(view[start:end])
            start = end
            if flags & END:
                pieces, whole = self._pieces, self._whole
                self._pieces, self._whole = [], []
                block = _block(pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces)))
                found.append(Message(b"".join(whole)) if block is None else block)
        return found


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message that is not a block, as its fragments."""

    fragments: bytes


def _block(message: memoryview) -> bytes | None:
    """The byte array of a block message; None when the message is anything else."""
    if message[_MESSAGE_TYPE_AT : _MESSAGE_TYPE_AT + _MESSAGE_TYPE.size] != _PIPELINE_OUTPUT:
        return None
    head = bytes(message[_MESSAGE_HEADER_BYTES : _MESSAGE_HEADER_BYTES + _HEAD_BYTES])
    start = head.find(_BLOCK_START)
    if start < 0 or head.find(_TYPE_NAME, 0, start) < 0 or message[-len(_BLOCK_END) :] != _BLOCK_END:
        return None
    start += _MESSAGE_HEADER_BYTES + len(_BLOCK_START)
    try:
        return pybase64.b64decode(message[start : len(message) - len(_BLOCK_END)], validate=True)
    except ValueError:
        return None
