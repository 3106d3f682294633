"""The process that parses file systems, without keys, an environment or other programs, in little memory.

Started as ``python -m hvpsbridge.filesystems.worker FD``; disks are read through the socket FD.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from hvpsbridge.filesystems import wire
from hvpsbridge.filesystems.confinement import confine_parser, limit
from hvpsbridge.filesystems.disks import UnreadableError
from hvpsbridge.filesystems.layout import Found, Opened, open_file_system, volumes
from hvpsbridge.filesystems.tools import Ran, ToolFile
from hvpsbridge.formats.readable import Readable

_STEP_BYTES = 1 << 20
# Parsers read a few hundred bytes at a time.
_BLOCK_BYTES = 16 * 1024
_BLOCKS_KEPT = 1024


class RemoteDisk:
    """A disk of the other side of the socket, with a cache of small blocks."""

    def __init__(self, connection: socket.socket, number: int, size_bytes: int) -> None:
        self._connection = connection
        self._number = number
        self.size_bytes = size_bytes
        self._blocks: dict[int, bytes] = {}

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``.

        Raises:
            UnreadableError: some of them cannot be read.
        """
        if offset < 0 or length < 0 or offset + length > self.size_bytes:
            raise UnreadableError(f"bytes {offset} to {offset + length} are beyond the end of the disk")
        if length >= _BLOCK_BYTES:
            return b"".join(
                self._ask(at, min(wire.MAX_READ, offset + length - at))
                for at in range(offset, offset + length, wire.MAX_READ)
            )
        first = offset // _BLOCK_BYTES
        last = (offset + max(length, 1) - 1) // _BLOCK_BYTES
        data = b"".join(self._block(number) for number in range(first, last + 1))
        start = offset - first * _BLOCK_BYTES
        return data[start : start + length]

    def _block(self, number: int) -> bytes:
        data = self._blocks.pop(number, None)
        if data is None:
            offset = number * _BLOCK_BYTES
            data = self._ask(offset, min(_BLOCK_BYTES, self.size_bytes - offset))
            if len(self._blocks) >= _BLOCKS_KEPT:
                del self._blocks[next(iter(self._blocks))]
        self._blocks[number] = data
        return data

    def _ask(self, offset: int, length: int) -> bytes:
        wire.send(self._connection, wire.WANT, wire.READ.pack(self._number, offset, length))
        letter, payload = wire.receive(self._connection)
        if letter == wire.READ_FAILED:
            raise UnreadableError(payload.decode(), damaged=True)
        return payload


class RemoteTools:
    """Tools that the other side runs."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def file(self) -> ToolFile:
        """A new empty file.

        Raises:
            OSError: it cannot be made.
        """
        (number,) = wire.COUNT.unpack(self._ask(wire.FILE))
        _, descriptors, _, _ = socket.recv_fds(self._connection, 1, 1)
        return ToolFile(number, descriptors[0])

    def run(self, name: str, number: int) -> Ran:
        """Run a tool on a file.

        Raises:
            OSError: it cannot be started.
        """
        return Ran(**json.loads(self._ask(wire.TOOL, json.dumps([name, number]).encode())))

    def _ask(self, letter: bytes, payload: bytes = b"") -> bytes:
        wire.send(self._connection, letter, payload)
        answer, content = wire.receive(self._connection)
        if answer == wire.TOOL_FAILED:
            raise OSError(content.decode("utf-8", "replace"))
        return content


class Worker:
    """Answers requests."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._found: list[Found] = []
        self._opened: dict[int, Opened] = {}
        self._tools = RemoteTools(connection)

    def serve(self) -> None:
        """Answer requests until the other side is gone."""
        while True:
            _, payload = wire.receive(self._connection)
            request: dict[str, Any] = json.loads(payload)
            answer = getattr(self, f"do_{request.pop('do')}")
            try:
                answer(**request)
                wire.send(self._connection, wire.END)
            except UnreadableError as err:
                self._failed(str(err), damaged=err.damaged)
            except (MemoryError, RecursionError) as err:
                self._failed(f"it needs too much memory ({type(err).__name__})")
            except (OSError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as err:
                self._failed(f"{type(err).__name__}: {err}"[:300])

    def do_volumes(self, sizes: list[int], sector_bytes: list[int]) -> None:
        """List volumes."""
        disks: list[Readable] = [
            RemoteDisk(self._connection, number, size) for number, size in enumerate(sizes)
        ]
        self._found = volumes(disks, sector_bytes)
        for found in self._found:
            wire.send(self._connection, wire.ITEM, wire.volume_json(found.volume))

    def do_pieces(self, volume: int) -> None:
        """List the pieces of a volume."""
        for piece in self._found[volume].pieces:
            wire.send(self._connection, wire.ITEM, wire.piece_json(piece))

    def do_open(self, volume: int) -> None:
        """Open a file system; answers with a notice."""
        notice = self._file_system(volume).notice
        wire.send(self._connection, wire.ITEM, json.dumps(notice).encode())

    def do_entry(self, volume: int, path: str) -> None:
        """Find one entry."""
        entry = self._file_system(volume).files.entry(wire.raw(path))
        if entry is not None:
            wire.send(self._connection, wire.ITEM, wire.entry_json(entry))

    def do_children(self, volume: int, entry: dict[str, Any]) -> None:
        """List a folder."""
        for found in self._file_system(volume).files.children(wire.entry_of(entry)):
            wire.send(self._connection, wire.ITEM, wire.entry_json(found))

    def do_read(self, volume: int, entry: dict[str, Any], limit: int | None) -> None:
        """Send the content of a file."""
        found = wire.entry_of(entry)
        files = self._file_system(volume).files
        zeros = bytes(_STEP_BYTES)
        end = found.size_bytes if limit is None else min(limit, found.size_bytes)
        for offset in range(0, end, _STEP_BYTES):
            data = files.read(found, offset, min(_STEP_BYTES, end - offset))
            if data == zeros:
                wire.send(self._connection, wire.ZEROS, wire.COUNT.pack(len(data)))
            else:
                wire.send(self._connection, wire.BYTES, data)

    def _file_system(self, volume: int) -> Opened:
        if volume not in self._opened:
            self._opened[volume] = open_file_system(self._found[volume], self._tools)
        return self._opened[volume]

    def _failed(self, what: str, *, damaged: bool = False) -> None:
        answer = json.dumps({"what": what, "damaged": damaged}).encode()
        wire.send(self._connection, wire.FAILED, answer)


def main() -> None:
    """Serve the socket whose number is the argument."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    limit()
    # Without support it runs with the limits alone; the other side sees that.
    confine_parser()
    try:
        Worker(connection).serve()
    except (EOFError, ConnectionError, BrokenPipeError):
        return


if __name__ == "__main__":
    main()
