"""Messages of the NBD protocol, as bytes. Pure; all integers are big endian.

Source: the protocol document of the NetworkBlockDevice project, "The NBD protocol".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag

GREETING = b"NBDMAGIC"
OPTION_MAGIC = b"IHAVEOPT"
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF
ALLOCATION = "base:allocation"
# One context, so its id may be any number.
ALLOCATION_ID = 1
STATE_HOLE, STATE_ZERO = 1, 2

# Limits that the protocol recommends, and that every client keeps.
MAX_OPTION_BYTES = 16 * 1024
MAX_NAME_BYTES = 4096
MAX_BLOCK_BYTES = 32 << 20

OPTION_HEAD = struct.Struct(">8sII")
REQUEST = struct.Struct(">IHHQQI")
_OPTION_REPLY = struct.Struct(">QIII")
_SIMPLE = struct.Struct(">IIQ")
_STRUCTURED = struct.Struct(">IHHQI")
_U16, _U32, _U64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")


class HandshakeFlag(IntFlag):
    """What both sides can do, before options."""

    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class OptionKind(IntEnum):
    """Options that a client sends."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class Reply(IntEnum):
    """Answers to options."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = 0x80000001
    ERR_POLICY = 0x80000002
    ERR_INVALID = 0x80000003
    ERR_TLS_REQD = 0x80000005
    ERR_UNKNOWN = 0x80000006
    ERR_TOO_BIG = 0x80000009


class Info(IntEnum):
    """Kinds of information about an export."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class ExportFlag(IntFlag):
    """What can be done with an export."""

    HAS_FLAGS = 1
    READ_ONLY = 2
    SEND_FLUSH = 4
    SEND_FUA = 8
    SEND_TRIM = 32
    SEND_WRITE_ZEROES = 64
    SEND_DF = 128
    CAN_MULTI_CONN = 256
    SEND_CACHE = 1024


class Command(IntEnum):
    """Kinds of requests."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    """Flags of requests."""

    FUA = 1
    NO_HOLE = 2
    DF = 4
    REQ_ONE = 8


class Error(IntEnum):
    """Errors of requests: numbers of errno, fixed by the protocol."""

    NONE = 0
    PERM = 1
    IO = 5
    INVALID = 22
    NO_SPACE = 28
    OVERFLOW = 75
    NOT_SUPPORTED = 95


class Chunk(IntEnum):
    """Kinds of the parts of a structured reply."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 0x8001
    ERROR_OFFSET = 0x8002


DONE = 1


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a client.

    Attributes:
        cookie: chosen by the client; its answers carry it.
    """

    flags: int
    command: int
    cookie: int
    offset: int
    length: int

    @classmethod
    def unpack(cls, data: bytes) -> Request:
        """A request from its 28 bytes.

        Raises:
            ValueError: it is not one.
        """
        magic, *fields = REQUEST.unpack(data)
        if magic != REQUEST_MAGIC:
            raise ValueError("not an NBD request")
        return cls(*fields)


def greeting() -> bytes:
    """What the server says first."""
    flags = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
    return GREETING + OPTION_MAGIC + _U16.pack(flags)


def option_reply(option: int, kind: Reply, data: bytes = b"") -> bytes:
    """An answer to an option."""
    return _OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def sized_text(text: str) -> bytes:
    """Text with its length before it."""
    data = text.encode()
    return _U32.pack(len(data)) + data


def export_info(size_bytes: int, flags: int) -> bytes:
    """Information EXPORT: size and flags."""
    return _U16.pack(Info.EXPORT) + _U64.pack(size_bytes) + _U16.pack(flags)


def text_info(kind: Info, text: str) -> bytes:
    """Information NAME or DESCRIPTION."""
    return _U16.pack(kind) + text.encode()


def block_info(minimum: int, preferred: int, maximum: int) -> bytes:
    """Information BLOCK_SIZE, in bytes."""
    return _U16.pack(Info.BLOCK_SIZE) + _U32.pack(minimum) + _U32.pack(preferred) + _U32.pack(maximum)


def old_export(size_bytes: int, flags: int, *, zeroes: bool) -> bytes:
    """The answer to EXPORT_NAME, which has no error and no size of its own."""
    return _U64.pack(size_bytes) + _U16.pack(flags) + (bytes(124) if zeroes else b"")


def parse_go(data: bytes) -> tuple[str, frozenset[int]]:
    """Name of the export and wanted information, from INFO or GO.

    Raises:
        ValueError: it has another form.
    """
    name, rest = _take_text(data)
    if len(rest) < _U16.size:
        raise ValueError("no count of information")
    (count,) = _U16.unpack_from(rest)
    if len(rest) != _U16.size * (1 + count):
        raise ValueError("another count of information")
    return name, frozenset(kind for (kind,) in _U16.iter_unpack(rest[_U16.size :]))


def parse_contexts(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Name of the export and queries, from LIST_META_CONTEXT or SET_META_CONTEXT.

    Raises:
        ValueError: it has another form.
    """
    name, rest = _take_text(data)
    if len(rest) < _U32.size:
        raise ValueError("no count of queries")
    (count,) = _U32.unpack_from(rest)
    rest = rest[_U32.size :]
    queries = []
    for _ in range(min(count, MAX_OPTION_BYTES)):
        query, rest = _take_text(rest)
        queries.append(query)
    if rest or len(queries) != count:
        raise ValueError("another count of queries")
    return name, tuple(queries)


def _take_text(data: bytes) -> tuple[str, bytes]:
    if len(data) < _U32.size:
        raise ValueError("no length")
    (length,) = _U32.unpack_from(data)
    end = _U32.size + length
    if length > MAX_NAME_BYTES or len(data) < end:
        raise ValueError("a wrong length")
    return data[_U32.size : end].decode(), data[end:]


def simple_reply(cookie: int, error: Error = Error.NONE) -> bytes:
    """A simple reply; the data of a READ follows it."""
    return _SIMPLE.pack(SIMPLE_REPLY_MAGIC, error, cookie)


def part(cookie: int, kind: Chunk, data: bytes, *, done: bool) -> bytes:
    """A part of a structured reply."""
    flags = DONE if done else 0
    return _STRUCTURED.pack(STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(data)) + data


def data_head(cookie: int, offset: int, length: int, *, done: bool) -> bytes:
    """What comes before the data of a READ."""
    flags, size = DONE if done else 0, _U64.size + length
    head = _STRUCTURED.pack(STRUCTURED_REPLY_MAGIC, flags, Chunk.OFFSET_DATA, cookie, size)
    return head + _U64.pack(offset)


def hole_part(cookie: int, offset: int, length: int, *, done: bool) -> bytes:
    """Zeros of a READ."""
    return part(cookie, Chunk.OFFSET_HOLE, _U64.pack(offset) + _U32.pack(length), done=done)


def error_part(cookie: int, error: Error, text: str, offset: int | None = None) -> bytes:
    """An error, with the offset that it is about; the last part of its reply."""
    message = text.encode()[:MAX_NAME_BYTES]
    head = _U32.pack(error) + _U16.pack(len(message)) + message
    if offset is None:
        return part(cookie, Chunk.ERROR, head, done=True)
    return part(cookie, Chunk.ERROR_OFFSET, head + _U64.pack(offset), done=True)


def status_part(cookie: int, runs: Iterable[tuple[int, bool]]) -> bytes:
    """Block status of base:allocation: lengths of runs, and whether each is data; else it is a hole."""
    states = b"".join(
        _U32.pack(length) + _U32.pack(0 if data else STATE_HOLE | STATE_ZERO) for length, data in runs
    )
    return part(cookie, Chunk.BLOCK_STATUS, _U32.pack(ALLOCATION_ID) + states, done=True)
