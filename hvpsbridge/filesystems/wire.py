"""Messages between hvps and the process that parses file systems: a letter, a length and a payload."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import asdict
from typing import Any

from hvpsbridge.filesystems.model import Entry, FileKind, Volume
from hvpsbridge.filesystems.pieces import Piece

HEADER = struct.Struct("<cI")
READ = struct.Struct("<IQI")
# To hvps: a read of a disk, an item of the answer, bytes and zeros of a file, its end, its failure; a wish
# for a file, and for a run of a tool on it.
WANT, ITEM, BYTES, ZEROS, END, FAILED = b"R", b"J", b"B", b"S", b"Z", b"X"
FILE, TOOL = b"F", b"T"
# From hvps: a request, the bytes of a read, its failure; the number of a file, whose descriptor comes with
# the next byte, how a tool ended, and why there is neither.
REQUEST, DATA, READ_FAILED = b"Q", b"D", b"E"
NEW_FILE, RAN, TOOL_FAILED = b"N", b"O", b"P"
COUNT = struct.Struct("<Q")
# The largest payload either side accepts.
MAX_PAYLOAD = 64 << 20
MAX_READ = 8 << 20


def send(connection: socket.socket, letter: bytes, payload: bytes = b"") -> None:
    """Send a message."""
    connection.sendall(HEADER.pack(letter, len(payload)) + payload)


def receive(connection: socket.socket) -> tuple[bytes, bytes]:
    """The next message: its letter and payload.

    Raises:
        EOFError: the other side is gone.
    """
    letter, length = HEADER.unpack(_exactly(connection, HEADER.size))
    if length > MAX_PAYLOAD:
        raise EOFError
    return letter, _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return bytes(data)


def text(path: bytes) -> str:
    """Bytes of a name as text that :func:`raw` turns back."""
    return path.decode("utf-8", "surrogateescape")


def raw(path: str) -> bytes:
    """The bytes of a name."""
    return path.encode("utf-8", "surrogateescape")


def entry_values(entry: Entry) -> dict[str, Any]:
    """An entry as values of JSON."""
    return {**asdict(entry), "path": text(entry.path), "target": text(entry.target)}


def entry_of(values: dict[str, Any]) -> Entry:
    """The entry of :func:`entry_values`."""
    kind, path, target = FileKind(values["kind"]), raw(values["path"]), raw(values["target"])
    return Entry(**{**values, "kind": kind, "path": path, "target": target})


def entry_json(entry: Entry) -> bytes:
    """An entry as JSON."""
    return json.dumps(entry_values(entry)).encode()


def entry_from(payload: bytes) -> Entry:
    """The entry of :func:`entry_json`."""
    return entry_of(json.loads(payload))


def volume_json(volume: Volume) -> bytes:
    """A volume as JSON."""
    return json.dumps(asdict(volume)).encode()


def volume_from(payload: bytes) -> Volume:
    """The volume of :func:`volume_json`."""
    return Volume(**json.loads(payload))


def piece_json(piece: Piece) -> bytes:
    """A piece of a volume as JSON."""
    return json.dumps(asdict(piece)).encode()


def piece_from(payload: bytes) -> Piece:
    """The piece of :func:`piece_json`.

    Raises:
        ValueError: it is not one.
    """
    values = json.loads(payload)
    places = tuple((int(disk), int(offset)) for disk, offset in values["places"])
    return Piece(int(values["length"]), places, int(values["stripe_bytes"]))
