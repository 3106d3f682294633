"""Receive replies as bytes: found, not parsed. Sans-io, and the heart of the fast path.

Rule: bytes in, values out; no socket, no pypsrp. Whatever is not exactly what a reader pipeline sends is
handed back whole, as the fragments it came in, so that pypsrp's own parser can read it with nothing lost.

A reply is SOAP around base64 of PSRP fragments; a fragment is a 21-byte header and a slice of a message;
a message is a 40-byte header and CLIXML; and the CLIXML of a block is an object with one byte array, in
base64 again. Two SIMD decodes and one join are all that a block costs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import pybase64

from hvpsbridge.host.psrp.http import Body

_STREAM = b"<rsp:Stream "
_STREAM_END = b"</rsp:Stream>"
_STDOUT = b'Name="stdout"'
_DONE = b"CommandState/Done"
_BODY_START = b":Body"

# MS-PSRP 2.2.4: object id, fragment id, flags (1 start, 2 end), length; big endian.
_FRAGMENT = struct.Struct(">QQBI")
_START, _END = 1, 2
# MS-PSRP 2.2.1: destination, type, runspace pool id, pipeline id; little endian.
_MESSAGE_TYPE = struct.Struct("<I")
_MESSAGE_TYPE_AT = 4
_MESSAGE_HEADER_BYTES = 40
_PIPELINE_OUTPUT = struct.pack("<I", 0x00041004)

_BLOCK_TYPE = b"<T>Hvps.BlockMessage</T>"
_BLOCK_START = b'<MS><BA N="Block">'
_BLOCK_END = b"</BA></MS></Obj>"
# The type names before the array; far less than this.
_HEAD_BYTES = 1024


class UnknownReply(ValueError):
    """A reply that is not laid out as Windows lays them out; another parser must read it."""


class BrokenStream(ValueError):
    """Fragments do not follow each other: something was lost, doubled or reordered."""


def read_reply(body: Body) -> list[bytes]:
    """The decoded stream contents of a ReceiveResponse, in order.

    Raises:
        UnknownReply: its layout is another one.
    """
    buffer, end = body.buffer, body.end
    view = memoryview(buffer)
    tail = buffer.find(_BODY_START, body.start, end)
    if tail < 0:
        raise UnknownReply("no body of the usual form")
    contents: list[bytes] = []
    while (position := buffer.find(_STREAM, tail, end)) >= 0:
        opened = buffer.find(b">", position, end)
        closed = buffer.find(b"<", opened, end)
        if opened < 0 or closed < 0:
            raise UnknownReply("a stream without an end")
        if buffer.find(_STDOUT, position, opened) < 0:
            raise UnknownReply("a stream other than stdout")
        if buffer.endswith(b"/", position, opened):
            tail = opened
            continue
        if not buffer.startswith(_STREAM_END, closed, end):
            raise UnknownReply("a stream that holds more than text")
        try:
            contents.append(pybase64.b64decode(view[opened + 1 : closed], validate=True))
        except ValueError as err:
            raise UnknownReply("a stream that is no plain base64") from err
        tail = closed
    return contents


def ends_command(body: Body) -> bool:
    """Whether a reply says that the command is done; cheap enough to ask before it is read."""
    # That stands behind the last stream, so only the reply's tail is searched, not its megabyte of base64.
    last = body.buffer.rfind(_STREAM_END, body.start, body.end)
    return body.buffer.find(_DONE, max(last, body.start), body.end) >= 0


@dataclass(slots=True)
class Assembler:
    """Fragments in, blocks out, whatever their cut.

    Attributes:
        _object: id of the message under way.
        _pieces: its slices so far.
        _whole: its fragments so far, headers included, for another parser.
    """

    _object: int = 0
    _following: int = 0
    _pieces: list[memoryview] = field(default_factory=list)
    _whole: list[memoryview] = field(default_factory=list)

    @property
    def pending(self) -> bytes:
        """Fragments of the message under way; whoever takes them over starts with these."""
        return b"".join(self._whole)

    def feed(self, fragments: bytes) -> Iterator[bytes | Message]:
        """Blocks, and messages that are something else, in the order in which they end.

        Raises:
            BrokenStream: a fragment does not follow the one before it.
        """
        view = memoryview(fragments)
        size = len(view)
        start = 0
        while start < size:
            content = start + _FRAGMENT.size
            if content > size:
                raise BrokenStream("a fragment shorter than its header")
            number, index, flags, length = _FRAGMENT.unpack_from(view, start)
            end = content + length
            if end > size:
                raise BrokenStream("a fragment longer than its stream")
            if flags & _START:
                if self._pieces or index:
                    raise BrokenStream(f"message {number} starts while {self._object} is under way")
                self._object = number
            elif not self._pieces or number != self._object or index != self._following:
                raise BrokenStream(f"fragment {index} of message {number} does not follow")
            self._following = index + 1
            self._pieces.append(view[content:end])
            self._whole.append(view[start:end])
            start = end
            if flags & _END:
                pieces, whole = self._pieces, self._whole
                self._pieces, self._whole = [], []
                block = _block(pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces)))
                yield Message(b"".join(whole)) if block is None else block


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message that is no block, as its fragments."""

    fragments: bytes


def _block(message: memoryview) -> bytes | None:
    """The byte array of a block message; None when the message is anything else."""
    if message[_MESSAGE_TYPE_AT : _MESSAGE_TYPE_AT + _MESSAGE_TYPE.size] != _PIPELINE_OUTPUT:
        return None
    head = bytes(message[_MESSAGE_HEADER_BYTES : _MESSAGE_HEADER_BYTES + _HEAD_BYTES])
    start = head.find(_BLOCK_START)
    if start < 0 or head.find(_BLOCK_TYPE, 0, start) < 0 or message[-len(_BLOCK_END) :] != _BLOCK_END:
        return None
    start += _MESSAGE_HEADER_BYTES + len(_BLOCK_START)
    try:
        return pybase64.b64decode(message[start : len(message) - len(_BLOCK_END)], validate=True)
    except ValueError:
        return None
